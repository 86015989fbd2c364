"""An asyncio service: the emitters are tasks, the application lives around the loop, and the loop never stalls."""

import asyncio
from collections.abc import Callable

from tests.hosts.checks import EMITTERS, say, service


def in_tasks(emit: Callable[[int], None]) -> None:
    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(emit, n) for n in range(EMITTERS)))

    asyncio.run(main())


async def inside_the_loop() -> dict[str, object]:
    """The whole life inside a running loop: emissions in a coroutine, contexts per task."""
    return await asyncio.to_thread(service, in_tasks)


say(**asyncio.run(inside_the_loop()))
