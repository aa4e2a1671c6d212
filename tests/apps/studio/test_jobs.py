"""Long work in steps: progress, the time that is left, cancelling, and what is left behind."""

import asyncio
from typing import Any

from apps.studio.studio_server import run
from kinecast.apps.studio.jobs import Job, Worker
from kinecast.errors import KinecastError


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def counted(clock, ended, frames=10):
    try:
        for _ in range(frames):
            clock.now += 2.0
            yield 1
    finally:
        ended.append(True)


def test_a_job_counts_its_frames_and_guesses_what_is_left():
    async def test():
        worker, clock = Worker(), Clock()
        ended: list[Any] = []
        left: list[Any] = []
        job = Job(worker, counted(clock, ended), 10, clock=clock)
        while job.state == "running":
            left.append((job.done, job.seconds_left))
            await asyncio.sleep(0)
        await job.task
        assert job.described() == {"state": "done", "done": 10, "total": 10, "left": None, "error": ""}
        assert ended == [True]
        for done, seconds in left:
            # The clock may be a step of the thread's ahead of what was counted.
            assert seconds is None or (10 - done) * 2 <= seconds <= (10 - done) * 2 * (done + 1) / done
        assert any(seconds for _, seconds in left) and left[0] == (0, None)
        await worker.close()

    run(test())


def test_a_cancelled_job_ends_soon_and_cleans_up():
    async def test():
        worker = Worker()
        ended: list[Any] = []
        job = Job(worker, counted(Clock(), ended, 10**9), 10**9)
        while job.done < 3:
            await asyncio.sleep(0)
        await job.stop()
        assert job.state == "cancelled" and 3 <= job.done < 10**6 and ended == [True]
        await worker.close()

    run(test())


def test_a_job_that_fails_says_why_in_a_line_that_the_page_may_know():
    def failing():
        yield 1
        raise KinecastError("/tmp/x/clip-1: expected frames, found none")

    async def test():
        worker = Worker()
        job = Job(worker, failing(), None, lambda line: line.replace("/tmp/x/clip-1", "clip"))
        await job.task
        assert (job.state, job.error) == ("failed", "clip: expected frames, found none")
        await worker.close()

    run(test())


def test_other_work_comes_between_the_steps_of_a_job():
    async def test():
        worker = Worker()
        order: list[int | str] = []

        def steps():
            for i in range(50):
                order.append(i)
                yield 1

        job = Job(worker, steps(), 50)
        while job.done < 2:
            await asyncio.sleep(0)
        await worker.run(order.append, "preview")
        await job.task
        assert order.index("preview") < 50
        await worker.close()

    run(test())
