"""The database and the disk fail under load: what was answered 200 is whole in the end."""

import json

import pytest
from django.core.management import call_command

from bench.world import count_missing, refund_of
from purchases.models import Purchase
from tests import faults
from tests.deployment import MODES

pytestmark = pytest.mark.usefixtures("transactional_db")


@pytest.fixture
def transactional_db(deployment):
    """In place of pytest-django's, which would empty the database under the running worker."""


@pytest.mark.parametrize("running_deployment", ["always_200"], indirect=True)
@pytest.mark.parametrize("fault", faults.FAULTS.values(), ids=faults.FAULTS)
def test_nothing_is_lost_while_the_database_fails(deployment, fault):
    sold = deployment.sell(3)
    deployment.deliver(sold)
    bodies = [*deployment.sell(3), *map(refund_of, sold)]

    with fault(deployment):
        answers = deployment.deliver(bodies)

    assert {answer.status for answer in answers} == {200}
    deployment.verify()
    assert set(statuses_of(sold)) == {"refunded"}


@pytest.mark.parametrize("running_deployment", MODES, indirect=True)
def test_what_the_disk_takes_is_acknowledged_in_every_mode(deployment):
    bodies = deployment.sell(3)

    with faults.NO_DATABASE(deployment):
        answers = deployment.deliver(bodies)
        assert len(deployment.spooled()) == 3

    assert {answer.status for answer in answers} == {200}
    deployment.verify()


@pytest.mark.parametrize("running_deployment", MODES, indirect=True)
def test_what_nothing_takes_is_found_by_reconciliation(deployment):
    bodies = deployment.sell_at_stripe(3)

    with faults.NO_DATABASE(deployment), faults.no_room_at_all(deployment):
        answers = deployment.deliver(bodies)

    expected = (200, None) if deployment.mode == "always_200" else (503, "60")
    assert {(answer.status, answer.headers.get("Retry-After")) for answer in answers} == {expected}
    assert count_missing(bodies) == 3
    call_command("reconcile")
    deployment.verify()
    assert set(statuses_of(bodies)) == {"paid"}


def statuses_of(bodies):
    sessions = [json.loads(body)["data"]["object"]["id"] for body in bodies]
    return Purchase.objects.filter(checkout_session_id__in=sessions).values_list(
        "status", flat=True
    )
