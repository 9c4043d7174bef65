"""The shared jobs as Procrastinate's tasks: it schedules them on PostgreSQL.

Imported by Procrastinate alone. A task is no more than a call: inbox and checkouts know what
there is to do, so a task that is lost, or runs twice, changes nothing.
"""

import asyncio
import threading
from typing import Any

import structlog
from procrastinate import PsycopgConnector
from procrastinate.contrib.django import app, connector_params
from procrastinate.jobs import Status

from fulfillment import worker

logger = structlog.get_logger(__name__)

# In seconds. A worker that gave no sign of life for so long is dead.
BEAT, DEAD_AFTER = 5, 20
# Time to finish what is under way after SIGTERM.
GRACE = 25
RECONNECT_AFTER = 1
# How long to wait for a connection before the scheduler is started anew.
PATIENCE = 5
stopping = threading.Event()


def _register(job: worker.Job) -> None:
    def run(timestamp: int) -> None:
        worker.perform(job, stopping)

    # Of each at most one waits and one runs, so that no job takes the places of the others.
    task = app.task(name=job.name, queueing_lock=job.name, lock=job.name)(run)
    # Seconds are the sixth field; what is rarer than once a minute is done at night.
    app.periodic(cron=f"* * * * * */{job.every}" if job.every < 60 else "17 3 * * *")(task)


for shared in worker.SHARED:
    _register(shared)


@app.periodic(cron="* * * * * */10")
@app.task(name="forget_dead", queueing_lock="forget_dead", pass_context=True)
async def forget_dead(context: Any, timestamp: int) -> None:
    """Free the places of jobs whose worker died; their next turn does the work."""
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=DEAD_AFTER):
        await manager.finish_job(job, status=Status.FAILED, delete_job=True)


def run() -> None:
    """Run the tasks until `stopping`, however often the database goes away meanwhile."""
    while not stopping.is_set():
        try:
            asyncio.run(_run())
        except Exception as error:  # noqa: BLE001  (psycopg's, its pool's, Procrastinate's own)
            logger.warning("scheduler_restarts", error=type(error).__name__)
        stopping.wait(RECONNECT_AFTER)


async def _run() -> None:
    # The pool's own patience, 30 s, would keep it from seeing that the database is back.
    connector = PsycopgConnector(kwargs=connector_params(), timeout=PATIENCE)
    with app.replace_connector(connector):
        async with app.open_async():
            working = asyncio.create_task(
                app.run_worker_async(
                    name=worker.NAME,
                    concurrency=len(worker.SHARED) + 2,
                    install_signal_handlers=False,
                    update_heartbeat_interval=BEAT,
                    stalled_worker_timeout=DEAD_AFTER,
                    shutdown_graceful_timeout=GRACE,
                    delete_jobs="always",
                )
            )
            while not (stopping.is_set() or working.done()):
                await asyncio.sleep(0.2)
            working.cancel()
            await asyncio.wait([working])
            if not working.cancelled():
                working.result()
