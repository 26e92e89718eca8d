"""Groups of replicas in that may answer a question equally well, the order out in which they are to be asked."""

from collections.abc import Sequence

from gateway.routing.route import Route


class Rank:
    """Groups of one pool, of one kind of backend: the same model to the operator, and other weights, or processes of
    which nobody can tell whether they have the same.

    What any of them has answered is an answer; so they are all looked up before one is asked.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)

    def looked(self) -> Sequence[Route]:
        """Those whose kept answers may be given: of groups that cannot be asked, only where none can."""
        usable = [route for route in self.routes if route.usable] if len(self.routes) > 1 else ()
        return usable or self.routes

    def asked(self, prompt: str, scope: str) -> Sequence[Route]:
        """Those that can be asked, whose replica would be chosen first."""
        usable = [route for route in self.routes if route.usable]
        if len(usable) < 2:
            return usable
        able = {replica: route for route in usable for replica in route.able()}
        if not able:
            return usable
        with_room = [replica for replica in able if replica.has_room]
        best = able[usable[0].preferred(with_room or list(able), prompt, scope)]
        return [best, *(route for route in usable if route is not best)]
