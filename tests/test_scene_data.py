"""Generating language about scenes: against a small server of chat completions, and from templates."""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from genworld.config import load_config
from genworld.data.generated import KINDS, Checker, SceneBrief, SceneObject, parse_item, read_generated, split_of
from genworld.pipelines.chat import ChatError, Message, OpenAIChat, OpenAIConfig, Picture, Reply, Request, Subject
from genworld.pipelines.chat_template import TemplateChat
from genworld.pipelines.lines import read_lines
from genworld.pipelines.scene_data import Floors, GenerateSettings, Scenes, Written, generate
from genworld.pipelines.scene_data_ways import Prompts
from genworld.types import Scene, SceneBox, UnreadableViewError, View

GOOD = json.dumps([{"question": "How many chairs are there?", "answer": "2", "objects": [0, 1]}])
Answer = tuple[int, dict[str, str], bytes]


def said(text: Any, reason: str = "stop") -> Answer:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return 200, {}, json.dumps({"choices": [choice], "usage": {"total_tokens": 7}}).encode()


class Server(ThreadingHTTPServer):
    """Gives the answers of `script` in turn, then what `usual` says; remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Answer] = []
        self.usual: Callable[[dict[str, Any]], Answer] = lambda _: said(GOOD)
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions"
        with self.server.lock:
            self.server.asked.append(body)
            self.server.headers.append(dict(self.headers))
            status, headers, content = self.server.script.pop(0) if self.server.script else self.server.usual(body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", headers.get("Claims", str(len(content))))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def client(server: Server, waits: list[float] | None = None, **more: Any) -> OpenAIChat:
    config = OpenAIConfig(url=server.url, model="m", timeout=5.0, **more)
    return OpenAIChat(config, (waits if waits is not None else []).append)


BRIEF = SceneBrief("a", (SceneObject(0, "chair", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),))


def request(*pictures: Picture) -> Request:
    return Request((Message("user", "hello", pictures),), Subject("records", "qa", BRIEF), 0.5)


def test_what_is_sent(server: Server, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    pixels = torch.linspace(-1, 1, 3 * 8 * 16).view(3, 8, 16)
    view = View(pixels, None, torch.eye(4), torch.eye(3))
    chat = client(server, api_key_file=tmp_path / "key")
    assert chat.reply(request(Picture(view))) == Reply(GOOD, False, 7)
    (body,) = server.asked
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.5, 1500)
    text, picture = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "hello"}
    kind, _, content = picture["image_url"]["url"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (16, 8)
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert "secret" not in repr(chat.config) + chat.name


def test_busy_servers_are_asked_again(server: Server) -> None:
    waits: list[float] = []
    server.script = [
        (429, {"Retry-After": "3"}, b"slow down"),
        (503, {}, b""),
        (200, {}, b"{broken"),
        (200, {}, b'{"choices": []}'),
        said(None, "content_filter"),
        (200, {"Claims": "9999"}, b"cut"),
    ]
    assert client(server, waits, retries=6, longest_wait=8.0).reply(request()).text == GOOD
    assert len(waits) == 6
    assert waits[0] == 3.0
    assert 1.0 <= waits[1] <= 2.0  # doubles, less up to half by chance
    assert waits[-1] == 8.0
    server.usual = lambda _: (500, {}, b"")
    with pytest.raises(ChatError, match="no answer after 2 tries: status 500"):
        client(server, retries=1).reply(request())


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((401, {}, b"bad key"), ValueError, "status 401: check url, model and key: bad key"),
        ((307, {"Location": "http://127.0.0.1:9/v1"}, b""), ValueError, "status 307"),
        ((302, {"Location": "http://127.0.0.1:9/v1"}, b""), ValueError, "status 302"),
        ((400, {}, b"too long"), ChatError, "status 400: too long"),
    ],
)
def test_refusals(server: Server, answer: Answer, error: type[Exception], words: str) -> None:
    server.script = [answer]
    with pytest.raises(error, match=words):
        client(server).reply(request())
    assert len(server.asked) == 1


def test_no_server() -> None:
    with pytest.raises(ChatError, match="no answer after 1 tries"):
        OpenAIChat(OpenAIConfig(url="http://127.0.0.1:9/v1", model="m", retries=0)).reply(request())


def test_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    (tmp_path / "a.yaml").write_text("url: http://h/v1\nmodel: m\napi_key: ${oc.env:MY_KEY}\n")
    assert load_config(OpenAIConfig, tmp_path / "a.yaml").api_key == "secret"
    with pytest.raises(ValueError, match="http"):
        OpenAIConfig(url="localhost:8000", model="m")
    with pytest.raises(ValueError, match="the API key and nothing else"):
        OpenAIChat(OpenAIConfig(url="http://h/v1", model="m", api_key_file=tmp_path / "none"))


class Rooms:
    """Scenes of two chairs, with two views; one cannot be read."""

    names = ("a", "b", "broken", "c")

    def read(self, name: str) -> Scene:
        if name == "broken":
            raise ValueError("no poses")
        boxes = tuple(SceneBox("chair", i, torch.full((3,), 2.0 * i), torch.full((3,), 2.0 * i + 1)) for i in range(2))
        views = tuple(View(torch.zeros(3, 8, 8), None, torch.eye(4), torch.eye(3)) for _ in range(2))
        return Scene(name, views, boxes=boxes)


QA = GenerateSettings(way="boxes", kinds=("qa",), samples=2)


def test_only_what_is_missing_is_asked(server: Server, tmp_path: Path) -> None:
    server.script = [said(GOOD), (400, {}, b"too long")]
    report = generate(QA, Scenes(Rooms()), client(server, concurrency=1), tmp_path, progress=False)
    assert report["jobs_done"] == 5
    assert sum(report["jobs_failed_in_this_run"].values()) == 1
    assert report["scenes_skipped"] == {"it cannot be read: no poses": 1}
    assert report["rejected"] == {"the same was said before": 2}
    assert report["records"] == {"qa": 3}
    with (tmp_path / "replies.jsonl").open("a") as file:
        file.write('{"job": "cut o')
    before = len(server.asked)
    report = generate(QA, Scenes(Rooms()), client(server, concurrency=3), tmp_path, progress=False)
    assert len(server.asked) == before + 1
    assert report["jobs_done"] == 6
    assert generate(QA, Scenes(Rooms()), client(server), tmp_path, progress=False)["jobs_done"] == 6
    assert len(server.asked) == before + 1
    messages = server.asked[0]["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert "chair(1): centre [2.50, 2.50, 2.50] size [1.00, 1.00, 1.00]" in messages[-1]["content"]
    other = GenerateSettings(way="boxes", kinds=("qa",), count=5)
    with pytest.raises(ValueError, match="was begun with count 4, now 5"):
        generate(other, Scenes(Rooms()), client(server), tmp_path, progress=False)


def test_bad_replies_are_counted(server: Server, tmp_path: Path) -> None:
    whole = {"question": "Is there a chair?", "answer": "yes", "objects": [0, 1]}
    wrong = {"question": "What is there?", "answer": "a chair", "objects": [9]}
    server.script = [said("I cannot."), said("I cannot."), said(json.dumps([wrong, whole])[:-3] + "", "length")]
    settings = GenerateSettings(way="boxes", kinds=("qa",))
    report = generate(settings, Scenes(Rooms()), client(server, concurrency=1), tmp_path, progress=False)
    assert report["rejected"] == {
        "the reply has no JSON": 1,
        "the reply was cut off": 1,
        "it names an object that is not there": 1,
    }
    assert report["records"] == {"qa": 1}
    assert len(read_lines(tmp_path / "rejected.jsonl")) == 3


def test_a_server_that_fails_is_given_up(server: Server, tmp_path: Path) -> None:
    server.usual = lambda _: (500, {}, b"")
    settings = GenerateSettings(way="boxes", samples=5)
    with pytest.raises(ValueError, match="failed 10 times in a row"):
        generate(settings, Scenes(Rooms()), client(server, retries=0), tmp_path, progress=False)


def test_a_wrong_key_ends_the_run(server: Server, tmp_path: Path) -> None:
    server.script = [said(GOOD), (401, {}, b"bad key")]
    with pytest.raises(ValueError, match="status 401"):
        generate(QA, Scenes(Rooms()), client(server, concurrency=1), tmp_path, progress=False)
    assert generate(QA, Scenes(Rooms()), client(server), tmp_path, progress=False)["jobs_done"] == 6


def test_a_silent_server_is_not_waited_for(server: Server) -> None:
    hold = threading.Event()
    server.usual = lambda _: (hold.wait(3.0), said(GOOD))[1]
    config = OpenAIConfig(url=server.url, model="m", timeout=0.1, retries=0)
    with pytest.raises(ChatError, match="no answer after 1 tries"):
        OpenAIChat(config).reply(request())
    hold.set()


def test_templates_say_nothing_of_scenes_without_objects(tmp_path: Path) -> None:
    class Bare(Rooms):
        names = ("a",)

        def read(self, name: str) -> Scene:
            return Scene(name, super().read(name).views)

    report = generate(GenerateSettings(way="chat"), Scenes(Bare()), TemplateChat(), tmp_path, progress=False)
    assert report["records"] == {}
    assert report["scenes_skipped"] == {"it has no objects": 1}


def test_chat_shows_pictures_to_the_viewer_only(server: Server, tmp_path: Path) -> None:
    def usual(body: dict[str, Any]) -> Answer:
        if isinstance(body["messages"][-1]["content"], list):
            return said("Two chairs.")
        if "Q: " in body["messages"][-1]["content"]:
            return said('{"caption": "There are two chairs.", "objects": [0, 1]}')
        return said("What is there?")

    server.usual = usual
    settings = GenerateSettings(way="chat", rounds=2)
    report = generate(settings, Scenes(Rooms()), client(server, concurrency=1), tmp_path, progress=False)
    assert report["records"] == {"caption": 3}
    assert len(server.asked) == 3 * (2 * 2 + 1)
    shown = [len(body["messages"][-1]["content"]) - 1 for body in server.asked[:5] if len(body["messages"]) == 2]
    assert 2 in shown
    assert "Q: What is there?\nA: Two chairs." in server.asked[4]["messages"][0]["content"]
    server.usual = lambda _: said('[{"question": "How many chairs are there?", "answer": "2", "objects": [0, 1]}]')
    revised = GenerateSettings(way="revise", kinds=("qa",))
    report = generate(revised, Written(tmp_path), client(server), tmp_path / "revised", progress=False)
    assert report["records"] == {"qa": 3}
    assert "There are two chairs." in server.asked[-1]["messages"][-1]["content"]


def test_chat_goes_on_without_lost_views(server: Server, tmp_path: Path) -> None:
    class Lost(Sequence[View]):
        """The first view cannot be read, or none of them."""

        def __init__(self, views: Sequence[View], every: bool) -> None:
            self.views, self.every = views, every

        def __len__(self) -> int:
            return len(self.views)

        def __getitem__(self, index: Any) -> Any:
            if index == 0 or self.every:
                raise UnreadableViewError(f"view {index}", "cut off")
            return self.views[index]

    class Worn(Rooms):
        names = ("a", "b")

        def read(self, name: str) -> Scene:
            scene = super().read(name)
            return replace(scene, views=Lost(scene.views, every=name == "b"))

    server.usual = lambda _: said('{"caption": "There are two chairs.", "objects": [0, 1]}')
    settings = GenerateSettings(way="chat", rounds=1)
    report = generate(settings, Scenes(Worn()), client(server, concurrency=1), tmp_path, progress=False)
    assert report["records"] == {"caption": 1}
    (shown,) = [body["messages"][-1]["content"] for body in server.asked if len(body["messages"]) == 2][1:]
    assert len(shown) == 2  # the question, and the view that is left
    ((reason, times),) = report["jobs_failed_in_this_run"].items()
    assert times == 1
    assert "scene b: none of the views to look at can be read:\n  view 0: cut off\n  view 1: cut off" in reason


def test_templates_make_every_kind_of_floors(tmp_path: Path) -> None:
    settings = GenerateSettings(way="boxes", samples=2, count=3)
    report = generate(settings, Floors(range(2)), TemplateChat(), tmp_path / "a", progress=False)
    assert set(report["records"]) == set(KINDS)
    assert set(report["rejected"]) <= {"the same was said before"}
    again = generate(settings, Floors(range(2)), TemplateChat(), tmp_path / "b", progress=False)
    assert again["records"] == report["records"]
    for name, count in report["entries"].items():
        assert (tmp_path / "a" / f"{name}.json").read_bytes() == (tmp_path / "b" / f"{name}.json").read_bytes()
        if count:
            found = read_generated(tmp_path / "a" / f"{name}.json")
            assert len(found.questions) == count
            assert {split_of(each.scene) for each in found.questions} == {name}
    chat = generate(GenerateSettings(way="chat"), Floors(range(2)), TemplateChat(), tmp_path / "c", progress=False)
    assert chat["records"] == {"caption": 2}
    revised = GenerateSettings(way="revise", kinds=("qa", "dialogue"))
    report = generate(revised, Written(tmp_path / "a"), TemplateChat(), tmp_path / "d", progress=False)
    assert set(report["records"]) == {"qa", "dialogue"}
    assert set(report["rejected"]) <= {"the same was said before"}


def test_templates_from_boxes_alone(tmp_path: Path) -> None:
    settings = GenerateSettings(way="boxes", kinds=("qa", "caption", "dialogue"))
    report = generate(settings, Scenes(Rooms()), TemplateChat(), tmp_path, progress=False)
    assert set(report["records"]) == {"qa", "caption", "dialogue"}
    assert report["rejected"] == {}
    with pytest.raises(ValueError, match="leave plan out"):
        generate(GenerateSettings(way="boxes"), Scenes(Rooms()), TemplateChat(), tmp_path, progress=False)
    with pytest.raises(ValueError, match="needs a folder of records"):
        generate(GenerateSettings(way="revise"), Scenes(Rooms()), TemplateChat(), tmp_path, progress=False)


def test_demonstrations_pass_the_checks() -> None:
    prompts = Prompts()
    brief = SceneBrief.from_json({"name": "d", "left_out": {}, "objects": prompts.demonstration["objects"]})
    checker = Checker([brief])
    for kind in KINDS:
        items = prompts.demonstration[kind]
        assert items
        for item in items:
            assert checker.check(parse_item(item, kind, "i", "d")).objects


def test_prompts_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "revise.txt").write_text("Do $something.")
    with pytest.raises(ValueError, match=r"it may use \$task"):
        Prompts(tmp_path).fill("revise", task="this")
    with pytest.raises(ValueError, match="no such prompt"):
        Prompts(tmp_path).fill("chat_viewer")
