"""Programs that live as our users' do: threads, asyncio, gevent, forks, gunicorn. Each runs the same checks."""
