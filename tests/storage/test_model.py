"""Any sequence of calls leaves what a dict would hold, in the log, in segments, after reopening."""

from __future__ import annotations

import shutil
import tempfile

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ai_os_diffusion.storage import ArrowStorage

IDS = st.sampled_from([f"id{i}" for i in range(12)] + ["ü", "x" * 300, "a/b", "\n"])
TEXTS = st.text(max_size=30)
VECTORS = st.lists(st.integers(-5, 5), min_size=3, max_size=3).filter(any)
METADATA = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3) | st.text(max_size=3), max_size=2)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.store = ArrowStorage(self.folder, durability="none")
        self.reader = ArrowStorage(self.folder, read_only=True)
        self.model: dict[str, tuple] = {}
        self.snapshots: list[tuple] = []

    @rule(name=IDS, text=TEXTS, vector=VECTORS, metadata=METADATA)
    def save(self, name, text, vector, metadata):
        self.store.save(name, text, vector, metadata)
        self.model[name] = (text, vector, metadata)

    @rule(items=st.lists(st.tuples(IDS, TEXTS, VECTORS, METADATA), max_size=8))
    def save_many(self, items):
        self.store.save_many(
            {"memory_id": n, "content": t, "embedding": v, "metadata": m} for n, t, v, m in items
        )
        self.model.update({n: (t, v, m) for n, t, v, m in items})

    @rule(name=IDS, text=TEXTS, metadata=METADATA)
    def update(self, name, text, metadata):
        assert self.store.update(name, content=text, metadata=metadata) == (name in self.model)
        if name in self.model:
            self.model[name] = (text, self.model[name][1], metadata)

    @rule(name=IDS)
    def delete(self, name):
        assert self.store.delete(name) == (name in self.model)
        self.model.pop(name, None)

    @rule(value=st.integers(0, 3))
    def delete_where(self, value):
        gone = [name for name, (_, _, metadata) in self.model.items() if metadata.get("a") == value]
        assert self.store.delete_where({"a": value}) == len(gone)
        for name in gone:
            del self.model[name]

    @rule()
    def flush(self):
        self.store.flush()

    @rule()
    def compact(self):
        self.store.compact()
        assert self.store.stats()["segments"] <= 1

    @rule()
    def reopen(self):
        self.store.close()
        self.store = ArrowStorage(self.folder, durability="none")

    @precondition(lambda self: len(self.snapshots) < 3)
    @rule()
    def snapshot(self):
        self.snapshots.append((self.store.snapshot(), dict(self.model)))

    @rule(vector=VECTORS, k=st.integers(1, 6), metric=st.sampled_from(["cosine", "dot", "euclidean"]))
    def query(self, vector, k, metric):
        query = np.asarray(vector, np.float64)
        scores = {}
        for name, (_, stored, _) in self.model.items():
            row = np.asarray(stored, np.float64)
            dot = float(row @ query)
            scores[name] = {
                "dot": dot,
                "cosine": dot / float(np.linalg.norm(row) * np.linalg.norm(query)),
                "euclidean": -float(np.linalg.norm(row - query)),
            }[metric]
        best = sorted(scores.values(), reverse=True)[:k]
        hits = self.store.query(vector, k, metric=metric)
        assert np.allclose([similarity for _, similarity in hits], best, atol=1e-5)
        for memory, similarity in hits:
            assert abs(scores[memory["memory_id"]] - similarity) < 1e-5

    @invariant()
    def equal_to_the_model(self):
        for store in (self.store, self.reader):
            check(store, self.model)
        for view, model in self.snapshots:
            check(view, model)

    def teardown(self):
        assert self.store.verify() == []
        self.store.close()
        self.reader.close()
        shutil.rmtree(self.folder)


def check(store, model):
    found = {m["memory_id"]: (m["content"], m["embedding"].tolist(), m["metadata"]) for m in store}
    assert found == model
    assert store.count() == len(model)
    assert list(found) == sorted(found, key=str.encode)


StoreMachine.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestStoreEqualsDict = StoreMachine.TestCase
