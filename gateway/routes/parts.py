"""What handlers work with."""

import msgspec

from gateway.access import Access
from gateway.conversations import Conversations
from gateway.embedding.embedder import Embedder
from gateway.explaining import Explainer
from gateway.pipeline import Pipeline
from gateway.proof.proving import Proof
from gateway.router import Router
from gateway.telemetry import Telemetry
from storage.invalidations import Invalidations
from storage.listing import Listing
from storage.tiers import Tiers


class Parts(msgspec.Struct, frozen=True):
    """What a running application is made of. One dependency, because the framework opens a task group for several."""

    pipeline: Pipeline
    embedder: Embedder
    router: Router
    tiers: Tiers
    telemetry: Telemetry
    access: Access
    invalidations: Invalidations
    proof: Proof
    listing: Listing
    explainer: Explainer
    conversations: Conversations
