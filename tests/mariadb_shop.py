"""A shop that shows whether a restore was done once, whole and no more than once: what is done twice gives other values.

`SHOP` makes it, `OLD` adds tables without transactions, `LATER` is the log after a full; each is run in one session.
"""

from __future__ import annotations

ROWS = 3000
SHOP = (
    "CREATE DATABASE shop",
    "CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(400), n INT DEFAULT 0)",
    f"INSERT INTO shop.t (v) SELECT REPEAT(MD5(seq), 12) FROM shop.seq_1_to_{ROWS}",
    "CREATE TABLE shop.nothing (id INT)",
    "CREATE SEQUENCE shop.counter START WITH 7",
    "SELECT NEXTVAL(shop.counter)",
    "CREATE VIEW shop.few AS SELECT id, v FROM shop.t WHERE id < 10",
    "CREATE TRIGGER shop.g BEFORE INSERT ON shop.t FOR EACH ROW SET NEW.n = NEW.n + 1",
    "CREATE FUNCTION shop.one() RETURNS INT DETERMINISTIC RETURN 1",
    "CREATE EVENT shop.e ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM shop.nothing",
    "CREATE DATABASE other",
    "CREATE TABLE other.t (id INT PRIMARY KEY, v INT)",
    "INSERT INTO other.t VALUES (1, 1), (2, 2)",
    "CREATE VIEW other.both AS SELECT t.id, s.v FROM other.t JOIN shop.few s USING (id)",
    "GRANT SELECT ON shop.t TO ana@'%' IDENTIFIED BY 'x'",
)
OLD = (
    "CREATE TABLE shop.plain (id INT, v VARCHAR(400)) ENGINE=MyISAM",
    f"INSERT INTO shop.plain SELECT seq, REPEAT(MD5(seq), 12) FROM shop.seq_1_to_{ROWS}",
    "CREATE TABLE shop.aria (id INT, v VARCHAR(400)) ENGINE=Aria TRANSACTIONAL=0",
    f"INSERT INTO shop.aria SELECT seq, REPEAT(MD5(seq), 12) FROM shop.seq_1_to_{ROWS}",
    "CREATE TRIGGER shop.h BEFORE INSERT ON shop.plain FOR EACH ROW SET NEW.id = -NEW.id",
    "CREATE TABLE shop.kept (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING",
    "INSERT INTO shop.kept VALUES (1, 1)",
    "UPDATE shop.kept SET v = 2",
)
SLOW = (
    "SET SESSION binlog_format=STATEMENT",
    *(f"UPDATE shop.t SET n = n + {n} + SLEEP(0.03) WHERE id = 1" for n in range(8)),
    "SET SESSION binlog_format=ROW",
)
"""Transactions that take their time, also when they are replayed."""

LATER = (
    *(f"UPDATE shop.t SET n = n + {n} WHERE id <= 5" for n in range(10)),
    *SLOW,
    "CREATE TABLE shop.made AS SELECT id, n, SLEEP(0) s FROM shop.t WHERE id <= 50",
    *SLOW,
    "UPDATE shop.made SET n = n + 1",
    "XA START 'x1'",
    "UPDATE shop.t SET n = n + 1",
    "XA END 'x1'",
    "XA PREPARE 'x1'",
    "XA COMMIT 'x1'",
    *SLOW,
    "ALTER TABLE other.t ADD COLUMN w INT DEFAULT 3, ADD KEY (v)",
    "SET SESSION gtid_domain_id=7",
    *(f"INSERT INTO other.t (id, v) VALUES ({n}, {n})" for n in range(10, 30)),
    *SLOW,
    "SET SESSION gtid_domain_id=0",
    "CREATE OR REPLACE TABLE shop.made AS SELECT id, n FROM shop.t WHERE id <= 20",
    "SET SESSION binlog_format=STATEMENT",
    *(f"UPDATE shop.made SET n = n + {n}" for n in range(20)),
    *SLOW,
    "GRANT UPDATE ON shop.t TO ana@'%'",
    "DROP TABLE shop.nothing",
)
