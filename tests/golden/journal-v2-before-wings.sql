BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'letstune','m001_initial','2026-11-27 22:08:54.799273+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'letstune','m002_deaths','2026-11-27 22:08:54.800677+00:00');
CREATE TABLE deaths (
        seq INTEGER PRIMARY KEY,
        trial INTEGER NOT NULL REFERENCES trials (trial),
        epoch INTEGER NOT NULL,
        attempt TEXT NOT NULL,
        code INTEGER NOT NULL,
        memory INTEGER,
        stack TEXT NOT NULL,
        at TEXT NOT NULL,
        session INTEGER NOT NULL
) STRICT;
CREATE TABLE deletions (
        seq INTEGER PRIMARY KEY,
        trial INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        why TEXT NOT NULL,
        session INTEGER NOT NULL,
        UNIQUE (trial, epoch),
        FOREIGN KEY (trial, epoch) REFERENCES epochs (trial, epoch)
) STRICT;
CREATE TABLE epochs (
        seq INTEGER PRIMARY KEY,
        trial INTEGER NOT NULL REFERENCES trials (trial),
        epoch INTEGER NOT NULL,
        value REAL,
        metrics TEXT NOT NULL,
        started TEXT NOT NULL,
        seconds REAL NOT NULL,
        checkpoint TEXT,
        bytes INTEGER,
        sha256 TEXT,
        signature TEXT,
        session INTEGER NOT NULL,
        UNIQUE (trial, epoch)
) STRICT;
INSERT INTO "epochs" VALUES(36,0,0,1629353233.0,'{"height": 1629353233.0, "nan": "nan"}','2026-11-27T22:08:54.810358+00:00',8.78299988471553660929e-06,NULL,NULL,NULL,NULL,1);
INSERT INTO "epochs" VALUES(39,2,0,503147047.0,'{"height": 503147047.0, "nan": "nan"}','2026-11-27T22:08:54.814733+00:00',6.90000001668522600084e-06,NULL,NULL,NULL,NULL,1);
INSERT INTO "epochs" VALUES(40,2,1,188844141.0,'{"height": 188844141.0, "nan": "nan"}','2026-11-27T22:08:54.815258+00:00',6.62999991618562489748e-06,NULL,NULL,NULL,NULL,1);
INSERT INTO "epochs" VALUES(42,4,0,1749141628.0,'{"height": 1749141628.0, "nan": "-inf"}','2026-11-27T22:08:54.816494+00:00',6.27899999017245136201e-06,NULL,NULL,NULL,NULL,1);
INSERT INTO "epochs" VALUES(43,4,1,3780971.0,'{"height": 3780971.0, "nan": "nan"}','2026-11-27T22:08:54.816922+00:00',7.03099999554979149252e-06,NULL,NULL,NULL,NULL,1);
INSERT INTO "epochs" VALUES(44,5,0,943913748.0,'{"height": 943913748.0, "nan": "-inf"}','2026-11-27T22:08:54.817320+00:00',4.02599994231422897428e-06,NULL,NULL,NULL,NULL,1);
INSERT INTO "epochs" VALUES(45,5,1,2033564425.0,'{"height": 2033564425.0, "nan": "nan"}','2026-11-27T22:08:54.817739+00:00',4.03600006393389776349e-06,NULL,NULL,NULL,NULL,1);
INSERT INTO "epochs" VALUES(46,6,0,1055457779.0,'{"height": 1055457779.0, "nan": "nan"}','2026-11-27T22:08:54.818198+00:00',2.77399999504268635064e-06,NULL,NULL,NULL,NULL,1);
CREATE TABLE failures (
        seq INTEGER PRIMARY KEY,
        trial INTEGER NOT NULL UNIQUE REFERENCES trials (trial),
        epoch INTEGER NOT NULL,
        kind TEXT NOT NULL,
        message TEXT NOT NULL,
        traceback TEXT NOT NULL,
        session INTEGER NOT NULL
) STRICT;
INSERT INTO "failures" VALUES(37,0,1,'raised','ValueError: 1521910786','Traceback (most recent call last):
  File "letstune/worker.py", line 242, in _call
    return method(*args)
           ^^^^^^^^^^^^^
  File "tests/old_golden.py", line 17, in interrupted
    left.pop(); return whole(self,epoch)
                       ^^^^^^^^^^^^^^^^^
  File "tests/test_journal.py", line 686, in train_epoch
    raise ValueError(f"{x}")
ValueError: 1521910786
',1);
INSERT INTO "failures" VALUES(38,1,0,'raised','ValueError: 747478292','Traceback (most recent call last):
  File "letstune/worker.py", line 242, in _call
    return method(*args)
           ^^^^^^^^^^^^^
  File "tests/old_golden.py", line 17, in interrupted
    left.pop(); return whole(self,epoch)
                       ^^^^^^^^^^^^^^^^^
  File "tests/test_journal.py", line 686, in train_epoch
    raise ValueError(f"{x}")
ValueError: 747478292
',1);
INSERT INTO "failures" VALUES(41,3,0,'raised','ValueError: 1673940950','Traceback (most recent call last):
  File "letstune/worker.py", line 242, in _call
    return method(*args)
           ^^^^^^^^^^^^^
  File "tests/old_golden.py", line 17, in interrupted
    left.pop(); return whole(self,epoch)
                       ^^^^^^^^^^^^^^^^^
  File "tests/test_journal.py", line 686, in train_epoch
    raise ValueError(f"{x}")
ValueError: 1673940950
',1);
CREATE TABLE pickles (
        seq INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        pickle BLOB NOT NULL,
        sha256 TEXT NOT NULL,
        signature TEXT,
        about TEXT NOT NULL
) STRICT;
INSERT INTO "pickles" VALUES(23,'trainer',X'80059560030000000000008C0C746573745F6A6F75726E616C948C06476F6C64656E9493942981947D948C056B65657073945D94288C106C65747374756E652E7265636F726473948C06526F756E64739493942981947D94288C076C656E67746873944B014B0286948C046B65657094473FE00000000000008C06636F686F7274944E75628C0E6C65747374756E652E7370616365948C0553706163659493942981947D94288C046E616D65948C0150948C066669656C6473948C0178948C166C65747374756E652E646973747269627574696F6E73948C07556E69666F726D9493942981947D94288C036C6F77944700000000000000008C046869676894473FF00000000000008C036C6F6794898C0473746570944E756286948C01639468198C054F6E654F669493942981947D94288C0A63616E646964617465739468198C08436F6E7374616E749493942981947D948C0576616C7565948C016194736268198C05426F6F6C739493942981947D948C0B70726F626162696C69747994473FE0000000000000736286948C0777656967687473944E7562869486948C06637573746F6D94898C0674616767656494298C03636C73944E75628C0F6C65747374756E652E706172616D73948C065F4669656C649493942981947D94288C0A616E6E6F746174696F6E948C146C65747374756E652E616E6E6F746174696F6E73948C0A416E6E6F746174696F6E9493942981947D94288C0474657874948C016E948C076D656D62657273948C086275696C74696E73948C03696E7494939468418C075475706C654F669493942981947D94288C056974656D739468432981947D942868468C03696E74946848684B8594756285948C0876617269616469639488756268418C084C69746572616C739493942981947D948C0676616C756573944B0185947362879475628C046E6F64659468198C04496E74739493942981947D9428681E4B01681F4B0368208968214E75628C0764656661756C74944B0375628C116C65747374756E652E7265636F72646564948C0E5265636F72646564506172616D7394939468167D946818473FF00000000000007329879452948C106C65747374756E652E747261696E6572948C0C45706F6368547261696E65729493948C0474696E79948C05506F696E749493942981947D94286818473FE000000000000068474B0375626573622E','906fd4b12971092aea8e3055e2892c0a79de5e6bfb8e083ea9243b192d7d6ec9',NULL,'{"type": "test_journal:Golden", "python": "3.11", "folders": [], "fingerprint": "a87e1b43438604e24ba6fbdc26f2af362a2d093d30f0743a2ab2bd1d0044adbf"}');
INSERT INTO "pickles" VALUES(24,'sampler',X'8005952A000000000000008C116C65747374756E652E73616D706C657273948C0D52616E646F6D53616D706C65729493942981942E','bbd65b430d07e85344bd8c1b1b64c71c575f44c43c9edfbe499679ed73abc5a2',NULL,'{"type": "letstune.samplers:RandomSampler", "python": "3.11", "folders": [], "fingerprint": "cf1cbb66a638b4860a516671fb74850e6ccf787fe6c4c8d29e9c04efe880bd05"}');
INSERT INTO "pickles" VALUES(25,'dataset',X'8005950A000000000000008C06676F6C64656E942E','fb591d55adfb5f6c2e63b08c14760ba9c2c481d7fecadc20d142d7ea9f075b1c',NULL,'{"type": "builtins:str", "python": "3.11", "folders": []}');
CREATE TABLE plan (
        seq INTEGER PRIMARY KEY,
        fact TEXT NOT NULL,
        value TEXT NOT NULL
) STRICT;
INSERT INTO "plan" VALUES(1,'metric','"height"');
INSERT INTO "plan" VALUES(2,'n_trials','9');
INSERT INTO "plan" VALUES(3,'rounds','{"unit": "epochs", "lengths": [2, 3], "keep": 0.25, "cohort": null}');
INSERT INTO "plan" VALUES(4,'simple','false');
INSERT INTO "plan" VALUES(5,'seed','11');
INSERT INTO "plan" VALUES(6,'space','{"kind": "space", "name": "Point", "custom": false, "tagged": [], "fields": {"x": {"kind": "uniform", "low": -1.0, "high": 1.0, "log": false, "step": null}, "n": {"kind": "ints", "low": 1, "high": 9, "log": false, "step": null}}}');
INSERT INTO "plan" VALUES(7,'sampler','{"name": "letstune.samplers:RandomSampler", "options": null, "fields": {}, "by": {"distribution": "letstune", "version": "0.1.0"}}');
INSERT INTO "plan" VALUES(8,'adaptive','false');
INSERT INTO "plan" VALUES(9,'store','{"name": "directory", "uri": null, "run": "4e11990d2a36eccb", "options": {}, "by": {"distribution": "letstune", "version": "0.1.0"}}');
INSERT INTO "plan" VALUES(10,'lag','0');
INSERT INTO "plan" VALUES(11,'keep_checkpoints','10');
INSERT INTO "plan" VALUES(12,'trainer','"test_journal:Golden"');
INSERT INTO "plan" VALUES(13,'dataset','{"type": "builtins:str", "value": "golden", "kept": true}');
INSERT INTO "plan" VALUES(14,'threads','2');
INSERT INTO "plan" VALUES(15,'workers','null');
INSERT INTO "plan" VALUES(16,'executor','null');
INSERT INTO "plan" VALUES(17,'gpus','null');
INSERT INTO "plan" VALUES(18,'max_deaths','3');
INSERT INTO "plan" VALUES(19,'epoch_timeout','null');
INSERT INTO "plan" VALUES(20,'trial_timeout','null');
INSERT INTO "plan" VALUES(21,'versions','{"json": "2.0.9", "letstune": "0.1.0", "numpy": "2.4.6", "pytest": "9.2.0", "python": "3.11.7", "re": "2.2.1"}');
INSERT INTO "plan" VALUES(22,'observers','[]');
CREATE TABLE sessions (
        seq INTEGER PRIMARY KEY,
        session INTEGER NOT NULL,
        at TEXT NOT NULL,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        versions TEXT NOT NULL,
        ended TEXT,
        UNIQUE (session, ended)
) STRICT;
INSERT INTO "sessions" VALUES(26,1,'2026-11-27T22:08:54.808423+00:00','vm',6874,'{"letstune": "0.1.0", "python": "3.11.7"}',NULL);
INSERT INTO "sessions" VALUES(47,1,'2026-11-27T22:08:54.818689+00:00','vm',6874,'{"letstune": "0.1.0", "python": "3.11.7"}','interrupted');
CREATE TABLE stops (
        seq INTEGER PRIMARY KEY,
        trial INTEGER NOT NULL UNIQUE REFERENCES trials (trial),
        epoch INTEGER NOT NULL,
        session INTEGER NOT NULL
) STRICT;
CREATE TABLE trials (
        seq INTEGER PRIMARY KEY,
        trial INTEGER NOT NULL UNIQUE,
        params TEXT NOT NULL,
        sampler TEXT NOT NULL,
        session INTEGER NOT NULL
) STRICT;
INSERT INTO "trials" VALUES(27,0,'{"x":-0.7428595944616008,"n":8}','letstune.samplers:RandomSampler',1);
INSERT INTO "trials" VALUES(28,1,'{"x":-0.21887475368899767,"n":5}','letstune.samplers:RandomSampler',1);
INSERT INTO "trials" VALUES(29,2,'{"x":-0.2147347143655316,"n":7}','letstune.samplers:RandomSampler',1);
INSERT INTO "trials" VALUES(30,3,'{"x":0.6005010641272852,"n":6}','letstune.samplers:RandomSampler',1);
INSERT INTO "trials" VALUES(31,4,'{"x":0.3583665133667193,"n":1}','letstune.samplers:RandomSampler',1);
INSERT INTO "trials" VALUES(32,5,'{"x":0.16654013356231068,"n":4}','letstune.samplers:RandomSampler',1);
INSERT INTO "trials" VALUES(33,6,'{"x":-0.7930626942754027,"n":6}','letstune.samplers:RandomSampler',1);
INSERT INTO "trials" VALUES(34,7,'{"x":-0.12165896020720912,"n":4}','letstune.samplers:RandomSampler',1);
INSERT INTO "trials" VALUES(35,8,'{"x":-0.4674433570312617,"n":3}','letstune.samplers:RandomSampler',1);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE TRIGGER plan_refuses_update BEFORE UPDATE ON plan BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER plan_refuses_delete BEFORE DELETE ON plan BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER pickles_refuses_update BEFORE UPDATE ON pickles BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER pickles_refuses_delete BEFORE DELETE ON pickles BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER sessions_refuses_update BEFORE UPDATE ON sessions BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER sessions_refuses_delete BEFORE DELETE ON sessions BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER trials_refuses_update BEFORE UPDATE ON trials BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER trials_refuses_delete BEFORE DELETE ON trials BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER epochs_refuses_update BEFORE UPDATE ON epochs BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER epochs_refuses_delete BEFORE DELETE ON epochs BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER stops_refuses_update BEFORE UPDATE ON stops BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER stops_refuses_delete BEFORE DELETE ON stops BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER failures_refuses_update BEFORE UPDATE ON failures BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER failures_refuses_delete BEFORE DELETE ON failures BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER deletions_refuses_update BEFORE UPDATE ON deletions BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER deletions_refuses_delete BEFORE DELETE ON deletions BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE VIEW leaderboard AS 
        WITH ranked AS (
            SELECT trial, epoch, value,
                count(*) OVER (PARTITION BY trial) AS epochs,
                sum(seconds) OVER (PARTITION BY trial) AS seconds,
                row_number() OVER (
                    PARTITION BY trial
                    ORDER BY CASE WHEN abs(value) < 9e999 THEN value END DESC NULLS LAST, epoch
                ) AS place
            FROM epochs
        )
        SELECT
            row_number() OVER (
                ORDER BY f.trial IS NOT NULL,
                CASE WHEN abs(value) < 9e999 THEN value END DESC NULLS LAST, t.trial
            ) AS place,
            t.trial, r.value, r.epoch AS best_epoch, ifnull(r.epochs, 0) AS epochs,
            r.seconds, f.message AS failure, t.params
        FROM trials t
        LEFT JOIN ranked r ON r.trial = t.trial AND r.place = 1
        LEFT JOIN failures f ON f.trial = t.trial
        ORDER BY place;
CREATE VIEW learning_curves AS 
        SELECT trial, epoch, value, metrics, started, seconds
        FROM epochs ORDER BY trial, epoch;
CREATE VIEW checkpoints AS 
        SELECT e.trial, e.epoch, e.value, e.checkpoint, e.bytes, e.sha256, d.why AS deleted
        FROM epochs e LEFT JOIN deletions d ON d.trial = e.trial AND d.epoch = e.epoch
        WHERE e.checkpoint IS NOT NULL ORDER BY e.trial, e.epoch;
CREATE TRIGGER deaths_refuses_update BEFORE UPDATE ON deaths BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER deaths_refuses_delete BEFORE DELETE ON deaths BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
COMMIT;
PRAGMA application_id = 1819569765;
PRAGMA user_version = 2;
