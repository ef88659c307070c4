"""One real stack for all of these tests: Valkey, vLLM on SmolLM2, Celery, the gateway, from `deploy/up`."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Stack
from tests.servers import free_port

UPDATE_EVERY = 40


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(
        tmp_path_factory.mktemp("thumbwheel"),
        free_port(),
        {
            "THUMBWHEEL_UPDATE_EVERY": str(UPDATE_EVERY),
            "THUMBWHEEL_CHECK_EVERY": "3",
            "THUMBWHEEL_MIN_LABELS": "24",
            "THUMBWHEEL_POLICY_ROUNDS": "1",
            "THUMBWHEEL_POLICY_PROMPTS": "8",
            "THUMBWHEEL_POLICY_K": "4",
            "THUMBWHEEL_MAX_TOKENS": "24",
            "THUMBWHEEL_EVALUATE_COUNT": "8",
        },
    )
    try:
        stack.up()
        with stack.client() as client:  # until a test wants it, nothing learns by itself
            client.post("/v1/learning", json={"paused": True, "reason": "tests"}).raise_for_status()
        yield stack
    finally:
        stack.down()


@pytest.fixture
def api(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client
