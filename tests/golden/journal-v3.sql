BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'letstune','m001_initial','2026-11-27 23:10:26.159661+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'letstune','m002_deaths','2026-11-27 23:10:26.167151+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'letstune','m003_retries','2026-11-27 23:10:26.179237+00:00');
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
INSERT INTO "epochs" VALUES(35,0,0,1629353233.0,'{"height": 1629353233.0, "nan": "nan"}','2026-11-27T23:10:26.268956+00:00',9.38399989536264911293e-06,NULL,NULL,NULL,NULL,1);
INSERT INTO "epochs" VALUES(38,2,0,503147047.0,'{"height": 503147047.0, "nan": "nan"}','2026-11-27T23:10:26.297156+00:00',9.05300021258881315588e-06,NULL,NULL,NULL,NULL,1);
INSERT INTO "epochs" VALUES(39,2,1,188844141.0,'{"height": 188844141.0, "nan": "nan"}','2026-11-27T23:10:26.299509+00:00',8.32299974717898294329e-06,NULL,NULL,NULL,NULL,1);
INSERT INTO "epochs" VALUES(41,4,0,1749141628.0,'{"height": 1749141628.0, "nan": "-inf"}','2026-11-27T23:10:26.300831+00:00',5.15800002176547423005e-06,NULL,NULL,NULL,NULL,1);
INSERT INTO "epochs" VALUES(42,4,1,3780971.0,'{"height": 3780971.0, "nan": "nan"}','2026-11-27T23:10:26.304853+00:00',8.55300004332093521952e-06,NULL,NULL,NULL,NULL,1);
INSERT INTO "epochs" VALUES(43,5,0,943913748.0,'{"height": 943913748.0, "nan": "-inf"}','2026-11-27T23:10:26.309239+00:00',5.55899987375596538186e-06,NULL,NULL,NULL,NULL,1);
INSERT INTO "epochs" VALUES(44,5,1,2033564425.0,'{"height": 2033564425.0, "nan": "nan"}','2026-11-27T23:10:26.309609+00:00',5.49800006410805508494e-06,NULL,NULL,NULL,NULL,1);
INSERT INTO "epochs" VALUES(45,6,0,1055457779.0,'{"height": 1055457779.0, "nan": "nan"}','2026-11-27T23:10:26.314282+00:00',5.26799976796610280871e-06,NULL,NULL,NULL,NULL,1);
CREATE TABLE failures (
        seq INTEGER PRIMARY KEY,
        trial INTEGER NOT NULL REFERENCES trials (trial),
        epoch INTEGER NOT NULL,
        kind TEXT NOT NULL,
        message TEXT NOT NULL,
        traceback TEXT NOT NULL,
        session INTEGER NOT NULL
) STRICT;
INSERT INTO "failures" VALUES(36,0,1,'raised','ValueError: 1521910786','Traceback (most recent call last):
  File "letstune/training/worker.py", line 235, in _call
    return method(*args)
           ^^^^^^^^^^^^^
  File "tests/test_journal.py", line 89, in interrupted
    return whole(self, epoch)
           ^^^^^^^^^^^^^^^^^^
  File "tests/test_journal.py", line 33, in train_epoch
    raise ValueError(f"{x}")
ValueError: 1521910786
',1);
INSERT INTO "failures" VALUES(37,1,0,'raised','ValueError: 747478292','Traceback (most recent call last):
  File "letstune/training/worker.py", line 235, in _call
    return method(*args)
           ^^^^^^^^^^^^^
  File "tests/test_journal.py", line 89, in interrupted
    return whole(self, epoch)
           ^^^^^^^^^^^^^^^^^^
  File "tests/test_journal.py", line 33, in train_epoch
    raise ValueError(f"{x}")
ValueError: 747478292
',1);
INSERT INTO "failures" VALUES(40,3,0,'raised','ValueError: 1673940950','Traceback (most recent call last):
  File "letstune/training/worker.py", line 235, in _call
    return method(*args)
           ^^^^^^^^^^^^^
  File "tests/test_journal.py", line 89, in interrupted
    return whole(self, epoch)
           ^^^^^^^^^^^^^^^^^^
  File "tests/test_journal.py", line 33, in train_epoch
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
INSERT INTO "pickles" VALUES(23,'trainer',X'8005951E000000000000008C0C746573745F6A6F75726E616C948C06476F6C64656E9493942981942E','a16f546cb4f45dfcdb01bcb88814e57893ecbbc33e310a8faf329a7fa007ecf6',NULL,'{"type": "test_journal:Golden", "python": "3.11", "folders": [], "fingerprint": "cf1cbb66a638b4860a516671fb74850e6ccf787fe6c4c8d29e9c04efe880bd05"}');
INSERT INTO "pickles" VALUES(24,'dataset',X'8005950A000000000000008C06676F6C64656E942E','fb591d55adfb5f6c2e63b08c14760ba9c2c481d7fecadc20d142d7ea9f075b1c',NULL,'{"type": "builtins:str", "python": "3.11", "folders": []}');
CREATE TABLE plan (
        seq INTEGER PRIMARY KEY,
        fact TEXT NOT NULL,
        value TEXT NOT NULL
) STRICT;
INSERT INTO "plan" VALUES(1,'workers','null');
INSERT INTO "plan" VALUES(2,'executor','null');
INSERT INTO "plan" VALUES(3,'gpus','null');
INSERT INTO "plan" VALUES(4,'max_deaths','3');
INSERT INTO "plan" VALUES(5,'epoch_timeout','null');
INSERT INTO "plan" VALUES(6,'trial_timeout','null');
INSERT INTO "plan" VALUES(7,'metric','"height"');
INSERT INTO "plan" VALUES(8,'n_trials','9');
INSERT INTO "plan" VALUES(9,'rounds','{"unit": "epochs", "lengths": [2, 3], "keep": 0.25, "cohort": null}');
INSERT INTO "plan" VALUES(10,'simple','false');
INSERT INTO "plan" VALUES(11,'seed','11');
INSERT INTO "plan" VALUES(12,'space','{"kind": "space", "name": "Point", "custom": false, "tagged": [], "fields": {"x": {"kind": "uniform", "low": -1.0, "high": 1.0, "log": false, "step": null}, "n": {"kind": "ints", "low": 1, "high": 9, "log": false, "step": null}}}');
INSERT INTO "plan" VALUES(13,'sampler','{"name": "random", "options": {}, "by": {"distribution": "letstune", "version": "0.1.0"}}');
INSERT INTO "plan" VALUES(14,'adaptive','false');
INSERT INTO "plan" VALUES(15,'store','{"name": "directory", "options": {}, "uri": null, "run": "3dac6c11c44cdb60", "by": {"distribution": "letstune", "version": "0.1.0"}}');
INSERT INTO "plan" VALUES(16,'lag','0');
INSERT INTO "plan" VALUES(17,'keep_checkpoints','10');
INSERT INTO "plan" VALUES(18,'trainer','"test_journal:Golden"');
INSERT INTO "plan" VALUES(19,'dataset','{"type": "builtins:str", "value": "golden", "kept": true}');
INSERT INTO "plan" VALUES(20,'threads','2');
INSERT INTO "plan" VALUES(21,'versions','{"letstune": "0.1.0", "numpy": "2.4.6", "pytest": "9.2.0", "python": "3.11.7"}');
INSERT INTO "plan" VALUES(22,'observers','[]');
CREATE TABLE retries (
        seq INTEGER PRIMARY KEY,
        trial INTEGER NOT NULL REFERENCES trials (trial),
        session INTEGER NOT NULL
) STRICT;
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
INSERT INTO "sessions" VALUES(25,1,'2026-11-27T23:10:26.262699+00:00','vm',22987,'{"letstune": "0.1.0", "python": "3.11.7"}',NULL);
INSERT INTO "sessions" VALUES(46,1,'2026-11-27T23:10:26.317545+00:00','vm',22987,'{"letstune": "0.1.0", "python": "3.11.7"}','interrupted');
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
INSERT INTO "trials" VALUES(26,0,'{"x":-0.7428595944616008,"n":8}','random',1);
INSERT INTO "trials" VALUES(27,1,'{"x":-0.21887475368899767,"n":5}','random',1);
INSERT INTO "trials" VALUES(28,2,'{"x":-0.2147347143655316,"n":7}','random',1);
INSERT INTO "trials" VALUES(29,3,'{"x":0.6005010641272852,"n":6}','random',1);
INSERT INTO "trials" VALUES(30,4,'{"x":0.3583665133667193,"n":1}','random',1);
INSERT INTO "trials" VALUES(31,5,'{"x":0.16654013356231068,"n":4}','random',1);
INSERT INTO "trials" VALUES(32,6,'{"x":-0.7930626942754027,"n":6}','random',1);
INSERT INTO "trials" VALUES(33,7,'{"x":-0.12165896020720912,"n":4}','random',1);
INSERT INTO "trials" VALUES(34,8,'{"x":-0.4674433570312617,"n":3}','random',1);
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
CREATE TRIGGER deletions_refuses_update BEFORE UPDATE ON deletions BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER deletions_refuses_delete BEFORE DELETE ON deletions BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE VIEW learning_curves AS 
        SELECT trial, epoch, value, metrics, started, seconds
        FROM epochs ORDER BY trial, epoch;
CREATE VIEW checkpoints AS 
        SELECT e.trial, e.epoch, e.value, e.checkpoint, e.bytes, e.sha256, d.why AS deleted
        FROM epochs e LEFT JOIN deletions d ON d.trial = e.trial AND d.epoch = e.epoch
        WHERE e.checkpoint IS NOT NULL ORDER BY e.trial, e.epoch;
CREATE TRIGGER deaths_refuses_update BEFORE UPDATE ON deaths BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER deaths_refuses_delete BEFORE DELETE ON deaths BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER failures_refuses_update BEFORE UPDATE ON failures BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER failures_refuses_delete BEFORE DELETE ON failures BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER retries_refuses_update BEFORE UPDATE ON retries BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
CREATE TRIGGER retries_refuses_delete BEFORE DELETE ON retries BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END;
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
        LEFT JOIN failures f ON f.trial = t.trial AND NOT EXISTS (SELECT 1 FROM retries r WHERE r.trial = f.trial AND r.seq > f.seq)
        ORDER BY place;
COMMIT;
PRAGMA application_id = 1819569765;
PRAGMA user_version = 3;
