"""The server dies at any moment: what was answered 200 stays, whole and once."""

from bench.crash import crash
from bench.kills import kills


def test_kills_at_random_lose_double_and_halve_nothing(transactional_db):
    report = crash(events=150, answers_per_kill=25, seed=9)

    assert report.kills >= 3
    assert report.acknowledged == 150
    assert (report.missing, report.doubled, report.partial) == (0, 0, 0)
    assert report.next_fulfilled


def test_kills_of_server_and_worker_lose_double_and_halve_nothing(transactional_db):
    report = kills(rounds=4, deliveries=15, seed=9)

    assert report.acknowledged == report.deliveries == 60
    assert (report.missing, report.doubled, report.partial, report.spool_left) == (0, 0, 0, 0)
