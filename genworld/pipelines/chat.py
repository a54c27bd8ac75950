"""Asking language models: one small protocol, and any server that speaks OpenAI's `/v1/chat/completions`."""

from __future__ import annotations

import base64
import http.client
import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from PIL import Image

from genworld.data.generated import Generated, Kind, SceneBrief
from genworld.ops.pictures import to_uint8
from genworld.types import View
from genworld.world.rooms.floor import Floor

_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_MOST_BYTES = 1 << 24
_QUALITY = 90


class ChatError(Exception):
    """One request could not be answered; others may be."""


@dataclass(frozen=True)
class Picture:
    """A view, encoded when a server is to see it."""

    view: View

    @cached_property
    def url(self) -> str:
        """A JPEG as a data URL."""
        pixels = to_uint8(self.view.pixels[:, None])[0]
        file = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(file, "JPEG", quality=_QUALITY)
        return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


@dataclass(frozen=True)
class Message:
    """What somebody says, with pictures."""

    role: Literal["system", "user", "assistant"]
    text: str
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Subject:
    """What a request is about, for backends that answer from the truth and not from the messages.

    Attributes:
        step: what is asked for: records, a question, an answer, or a summary.
        kind: of the records that are asked for.
        brief: the scene's objects.
        floor: of the world, where it is one.
        sample: number of the request among those alike.
        count: how many records.
        views: that are shown.
        said: questions and answers so far.
        sources: the records to be revised.
    """

    step: Literal["records", "question", "answer", "summary"]
    kind: Kind
    brief: SceneBrief
    floor: Floor | None = None
    sample: int = 0
    count: int = 1
    views: tuple[int, ...] = ()
    said: tuple[tuple[str, str], ...] = ()
    sources: tuple[Generated, ...] = ()


@dataclass(frozen=True)
class Request:
    """Messages, how to answer, and what it is about."""

    messages: tuple[Message, ...]
    subject: Subject
    temperature: float = 0.7


@dataclass(frozen=True)
class Reply:
    """What came back; `cut_off` when it stopped at the limit of tokens."""

    text: str
    cut_off: bool = False
    tokens: int = 0


class ChatBackend(Protocol):
    """Something that answers; safe to call from several threads."""

    @property
    def name(self) -> str:
        """What it is, for the records."""
        ...

    @property
    def concurrency(self) -> int:
        """How many requests it takes at once."""
        ...

    def reply(self, request: Request) -> Reply:
        """Answer.

        Raises:
            ChatError: this request cannot be answered.
            ValueError: none can be: wrong address, key or model.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class OpenAIConfig:
    """A server that speaks OpenAI's chat completions.

    Attributes:
        url: up to and with `/v1`.
        model: as the server calls it; it must see pictures to be a viewer.
        api_key: in a YAML, `${oc.env:OPENAI_API_KEY}`; never written anywhere.
        api_key_file: a file with the key instead.
        max_tokens: of an answer.
        timeout: seconds without a sign of life.
        retries: after the first try, where the server is busy or fails.
        wait: seconds before the first retry; each next waits twice as long, up to `longest_wait`.
        concurrency: requests at once.
        proxy: address of an HTTP proxy; none otherwise, whatever the environment says.
    """

    kind: Literal["openai"] = "openai"
    url: str
    model: str
    api_key: str = field(default="", repr=False)
    api_key_file: Path | None = None
    max_tokens: int = 1500
    timeout: float = 120.0
    retries: int = 5
    wait: float = 1.0
    longest_wait: float = 60.0
    concurrency: int = 4
    proxy: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"url: expected http(s)://host/v1, got {self.url!r}")
        if self.api_key and self.api_key_file:
            raise ValueError("give api_key or api_key_file, not both")
        if min(self.max_tokens, self.concurrency) < 1 or self.retries < 0 or min(self.timeout, self.wait) <= 0:
            raise ValueError("max_tokens, concurrency, timeout and wait must be positive, retries at least 0")


class OpenAIChat:
    """A client of such a server, with timeouts and retries; redirects are refused, so that no key travels on."""

    def __init__(self, config: OpenAIConfig, sleep: Callable[[float], None] = time.sleep) -> None:
        self.config, self._sleep = config, sleep
        self._key = config.api_key or _read_key(config.api_key_file)
        proxies = {"http": config.proxy, "https": config.proxy} if config.proxy else {}
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _NoRedirect())

    @property
    def name(self) -> str:
        """Model and server."""
        return f"{self.config.model} at {self.config.url}"

    @property
    def concurrency(self) -> int:
        """See `ChatBackend`."""
        return self.config.concurrency

    def reply(self, request: Request) -> Reply:
        """Answer; see `ChatBackend`."""
        body = json.dumps(
            {
                "model": self.config.model,
                "messages": [_encode(message) for message in request.messages],
                "temperature": request.temperature,
                "max_tokens": self.config.max_tokens,
            }
        ).encode()
        for attempt in range(self.config.retries + 1):
            try:
                return self._once(body)
            except _BusyError as error:
                if attempt == self.config.retries:
                    raise ChatError(f"no answer after {attempt + 1} tries: {error}") from None
                jitter = 0.5 + 0.5 * Random(f"{attempt}/{len(body)}").random()
                wait = error.wait or self.config.wait * 2**attempt * jitter
                self._sleep(min(wait, self.config.longest_wait))
        raise AssertionError("the loop returns or raises")

    def _once(self, body: bytes) -> Reply:
        url = self.config.url.rstrip("/") + "/chat/completions"
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        try:
            with self._opener.open(urllib.request.Request(url, body, headers), timeout=self.config.timeout) as answer:
                return _decode(answer.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            said = " ".join(error.read(300).decode("utf-8", "replace").split())
            if error.code in _TRANSIENT:
                raise _BusyError(f"status {error.code}", _seconds(error.headers.get("Retry-After"))) from None
            if error.code in (400, 413, 422):  # this request, such as one that is too long
                raise ChatError(f"status {error.code}: {said}") from None
            raise ValueError(f"{url} answers with status {error.code}: check url, model and key: {said}") from None
        except (TimeoutError, urllib.error.URLError, http.client.HTTPException, ConnectionError) as error:
            raise _BusyError(f"{type(error).__name__}: {error}") from None


class _BusyError(Exception):
    """It may work later."""

    def __init__(self, text: str, wait: float = 0.0) -> None:
        super().__init__(text)
        self.wait = wait


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _read_key(path: Path | None) -> str:
    if path is None:
        return ""
    if not path.is_file() or len(path.read_text().split()) != 1:
        raise ValueError(f"{path}: expected a file with the API key and nothing else")
    return path.read_text().strip()


def _encode(message: Message) -> dict[str, Any]:
    if not message.pictures:
        return {"role": message.role, "content": message.text}
    pictures = [{"type": "image_url", "image_url": {"url": picture.url}} for picture in message.pictures]
    return {"role": message.role, "content": [{"type": "text", "text": message.text}, *pictures]}


def _decode(body: bytes) -> Reply:
    try:
        found = json.loads(body)
        choice = found["choices"][0]
        text = choice["message"]["content"]
        tokens = int((found.get("usage") or {}).get("total_tokens") or 0)
    except (UnicodeDecodeError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise _BusyError(f"not an answer of chat completions: {body[:80]!r}") from None
    if isinstance(text, list):
        text = "".join(part.get("text", "") for part in text if isinstance(part, dict))
    if not isinstance(text, str) or not text.strip():
        raise _BusyError(f"an empty answer (finish_reason {choice.get('finish_reason')!r})")
    return Reply(text, choice.get("finish_reason") == "length", tokens)


def _seconds(text: str | None) -> float:
    return float(text) if text and text.replace(".", "", 1).isdecimal() else 0.0
