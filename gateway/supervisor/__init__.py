"""The parent of `askonce serve`: a plan in, embedded servers and workers until a signal, an exit status out.

Handshake with a worker
-----------------------
A worker is started as `[*plan.worker_argv, "--fd", N]`, with the listening TCP socket inherited as file descriptor N,
before the servers are up, so that its imports cost no start-up time. It talks to its parent in lines:

1. parent -> worker, stdin: one line, the JSON of the whole `Config` in force, with the embedded servers'
   addresses filled in. A worker reads no settings of its own, and must not connect anywhere before it has this line.
   End of file instead of a line means that start-up was given up: the worker ends with status 0.
2. worker -> parent, stdout: `ready` once it serves, `using N` when it has the settings of the serial N, `reload N` when
   somebody wants the settings read again, and `standby N` when it wants to know where the standby of the embedded
   Postgres is, which is started then (`N` numbers its questions). Every other line on its stdout is copied to the
   parent's stderr. Its stderr is the parent's own.
3. parent -> worker, stdin: `{"serial": N, "config": …}`, other settings to use from now on, and `{"asked": N, …}`, what
   came of its question (`gateway/parent.py`). The settings a worker's successor begins with are the last ones.
4. parent -> worker: SIGTERM. The worker stops accepting, finishes its requests and ends with status 0; after
   `config.drain_s`, and 6 s more for writing out what it still has to keep, it is killed. A worker whose parent dies
   gets SIGTERM from the kernel.

A worker that ends by itself is started again, with a growing pause, and gets the same line at once.
Use:

    status = await serve(ServePlan(config=…, worker_argv=(sys.executable, "-m", "gateway.worker")), prepare=migrate)

where `async def migrate(database_url: str) -> bool` runs as soon as Postgres answers, while the model still loads.
`serve` must run in the main thread (signal handlers; children end with the thread that started them).
"""

from gateway.supervisor.plan import Prepare, ServePlan

__all__ = ["Prepare", "ServePlan", "serve"]


async def serve(plan: ServePlan, *, prepare: Prepare) -> int:
    """Run everything in `plan` until SIGTERM or SIGINT; a second SIGINT does not wait for open requests.

    Returns the exit status, 0 after a clean stop.

    Raises:
        AskonceError: start-up failed (folder in use, port taken, no usable model, a server or worker that does not
            start); the message is one sentence for the user, and everything already started has been stopped.
    """
    from gateway.supervisor import serving  # noqa: PLC0415 -- it brings what only the parent needs

    return await serving.serve(plan, prepare=prepare)
