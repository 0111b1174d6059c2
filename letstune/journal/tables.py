"""A table of the journal, declared once: its columns in SQL, and what they hold in words.

The statements that make a table, fill it and read it come from its declaration, and so does its
part of the documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple


class Column(NamedTuple):
    """A column: its type and constraints, and what it holds, in Markdown.

    ``since`` is the version of the schema that added the column to an existing table. Such a column
    may be NULL, and comes after all older ones, since SQLite puts it there.
    """

    sql: str
    holds: str
    since: int = 1


@dataclass(frozen=True, eq=False)
class Table:
    """A table, insert-only and STRICT.

    Attributes:
        name: as SQL has it.
        holds: what one finds there, in Markdown.
        columns: by name, in the order of the file.
        constraints: those on several columns.
        since: the first version of the schema that has the table.
        remade: the version in which it was made anew, with its rows, since SQLite can take no
            constraint away.
        was: the SQL of columns until then, by name, where it was another.
    """

    name: str
    holds: str
    columns: Mapping[str, Column]
    constraints: Sequence[str] = ()
    since: int = 1
    remade: int = 0
    was: Mapping[str, str] = field(default_factory=dict)

    def changes(self, version: int) -> list[str]:
        """Return the statements that lead to the table from the version before."""
        if version == self.since:
            return self._create(version)
        if version == self.remade:
            old = ", ".join(n for n, column in self.columns.items() if column.since < version)
            return [
                f"CREATE TABLE {self.name}_before AS SELECT * FROM {self.name}",
                f"DROP TABLE {self.name}",
                *self._create(version),
                f"INSERT INTO {self.name} ({old}) SELECT {old} FROM {self.name}_before",
                f"DROP TABLE {self.name}_before",
            ]
        return [
            f"ALTER TABLE {self.name} ADD COLUMN {name} {column.sql}"
            for name, column in self.columns.items()
            if column.since == version > self.since
        ]

    def _create(self, version: int) -> list[str]:
        there = [(n, column) for n, column in self.columns.items() if column.since <= version]
        was = self.was if version < self.remade else {}
        lines = [f"{name} {was.get(name, column.sql)}" for name, column in there]
        lines += self.constraints
        body = ",".join(f"\n        {line}" for line in lines)
        return [
            f"CREATE TABLE {self.name} ({body}\n) STRICT",
            *(
                f"CREATE TRIGGER {self.name}_refuses_{verb.lower()} BEFORE {verb} ON {self.name} "
                "BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END"
                for verb in ("UPDATE", "DELETE")
            ),
        ]

    def insert(self, columns: Sequence[str]) -> str:
        """Return the statement that adds a row: its ``seq``, then the values of some columns."""
        names = ["seq", *columns]
        places = ", ".join("?" * len(names))
        return f"INSERT INTO {self.name} ({', '.join(names)}) VALUES ({places})"

    def select(self, columns: Sequence[str], version: int) -> str:
        """Return the query for some columns; in a file of an older version, new ones are NULL."""
        there = [name if self.columns[name].since <= version else "NULL" for name in columns]
        return f"SELECT {', '.join(there)} FROM {self.name}"


SEQ: Final = Column(
    "INTEGER PRIMARY KEY", "The place of the row in the run: one counter over all tables."
)
SESSION: Final = Column("INTEGER NOT NULL", "The session that wrote the row.")
TRIAL: Final = Column("INTEGER NOT NULL REFERENCES trials (trial)", "The trial.")
"""Columns that several tables have."""
