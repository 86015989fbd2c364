"""A gevent host that imports us first and patches then."""

import runtime  # noqa: F401, I001
from gevent import monkey

monkey.patch_all()

from tests.hosts.checks import in_threads, say, service  # noqa: E402

say(**service(in_threads))
