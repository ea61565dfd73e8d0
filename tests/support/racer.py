"""A router process that takes all it can get: `python -m tests.support.racer TARGET HOLDER SCOPE SECONDS`.

Leases slices and spends them at once until the time is up, sometimes without reporting or closing, as a process that
crashes would; prints how many requests it ran."""

from __future__ import annotations

import asyncio
import random
import sys
import time

from pointsman.ratelimit.v1 import ratelimit_pb2 as pb
from pointsman.ratelimit.v1 import ratelimit_pb2_grpc

from libs.rpc.channel import connect


async def race(target: str, holder: str, scope: str, seconds: float) -> int:
    """The number of requests run."""
    rng, spent = random.Random(holder), 0
    async with connect(target) as channel:
        stream = ratelimit_pb2_grpc.RateLimiterStub(channel).Lease()
        await stream.write(pb.LeaseRequest(open=pb.LeaseOpen(holder_id=holder)))
        await stream.read()
        until, sequence = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            sequence += 1
            need, want = pb.Amounts(requests=1), pb.Amounts(requests=rng.choice([1, 5, 40]))
            acquire = pb.LeaseAcquire(sequence=sequence, scopes=[scope], need=need, want=want)
            await stream.write(pb.LeaseRequest(acquire=acquire))
            answer = await stream.read()
            while isinstance(answer, pb.LeaseResponse) and answer.WhichOneof("message") == "reported":
                answer = await stream.read()
            assert isinstance(answer, pb.LeaseResponse)
            if not answer.HasField("granted"):
                await asyncio.sleep(0.005)
                continue
            (piece,) = answer.granted.slices
            used = rng.randint(0, piece.amount)
            spent += used
            if rng.random() < 0.7:
                report = pb.SliceReport(slice_id=piece.slice_id, used=used, closed=True)
                await stream.write(pb.LeaseRequest(report=pb.LeaseReport(sequence=sequence, slices=[report])))
    return spent


if __name__ == "__main__":
    print(asyncio.run(race(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))))
