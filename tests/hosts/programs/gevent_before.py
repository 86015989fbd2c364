"""A gevent host that patches before it imports us. Its own greenlets must go on while one of them asks."""

from gevent import monkey

monkey.patch_all()

import gevent  # noqa: E402

from tests.hosts.checks import in_threads, say, service  # noqa: E402

beats = 0


def beat() -> None:
    global beats
    while True:
        beats += 1
        gevent.sleep(0.001)


heart = gevent.spawn(beat)
found = service(in_threads)
heart.kill()
say(**found, beats=beats)
