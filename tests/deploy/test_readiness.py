import socket
import threading
from collections.abc import Iterator

import pytest

from deploy.readiness import chat, http_answers, redis_answers


@pytest.fixture
def babbler() -> Iterator[str]:
    """The address of a server that answers one connection with what is neither HTTP nor Redis."""

    def babble() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(b"coo\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=babble)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize("url", ["engine", "engine:8001", "http://[::1", "http://a b", "http://there:port"])
def test_nothing_answers_at_what_is_no_url(url: str) -> None:
    assert not http_answers(url)
    assert not redis_answers(url)


def test_a_server_that_does_not_speak_http_has_not_answered(babbler: str) -> None:
    assert not http_answers(f"http://{babbler}")


def test_a_chat_with_such_a_server_says_what_came(babbler: str) -> None:
    assert chat(f"http://{babbler}", "key") == ("", "coo\r\n")


def test_a_server_that_does_not_speak_redis_has_not_answered(babbler: str) -> None:
    assert not redis_answers(f"redis://{babbler}")
