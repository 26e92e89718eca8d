"""What every reply says of where its answer came from."""

from gateway.pipeline import Answer, Vectors


def describing(answer: Answer) -> dict[str, str]:
    """The headers of one answer."""
    headers = {
        "x-askonce-cache": answer.status,
        "x-askonce-tier": answer.tier,
        "x-askonce-key": answer.key.hex(),
    }
    if answer.origin_id is not None:
        headers |= {"x-askonce-origin-id": answer.origin_id, "age": str(int(answer.age_s))}
    return headers


def describing_vectors(vectors: Vectors) -> dict[str, str]:
    """The headers of several embeddings: a hit when none had to be asked for."""
    kept = vectors.hits == len(vectors.values)
    headers = {
        "x-askonce-cache": "hit" if kept else "miss",
        "x-askonce-tier": vectors.tier,
        "x-askonce-hits": f"{vectors.hits}/{len(vectors.values)}",
    }
    if kept:
        headers["age"] = str(int(vectors.age_s))
    if len(vectors.keys) == 1:
        headers["x-askonce-key"] = vectors.keys[0].hex()
        if kept:
            headers["x-askonce-origin-id"] = vectors.origin_id
    return headers
