"""A headless Chromium, driven over a pipe, and one page in it: click, type, upload, look."""

import base64
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

SIZES = {"wide": (1280, 900), "narrow": (390, 844)}
FRAME = "new Promise((drawn) => requestAnimationFrame(drawn))"
# The middle of an element that has not moved for two frames and is the one that is hit there; else null.
REST = """(async () => {
  const one = document.querySelector(SELECTOR);
  one.scrollIntoView({block: "center", behavior: "instant"});
  const measure = () => {
    const box = one.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const before = measure();
  for (const _ of [1, 2]) await new Promise((drawn) => requestAnimationFrame(drawn));
  const after = measure(), hit = document.elementFromPoint(...after);
  return before.join() === after.join() && one.contains(hit) ? after : null;
})()"""


class Browser:
    """A headless Chromium that is driven over a pipe, by the DevTools protocol."""

    def __init__(self, chromium: str) -> None:
        commands, self.write = os.pipe()
        self.read, answers = os.pipe()
        line = f'exec "$@" 3<&{commands} 4>&{answers}'
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "about:blank"]
        self.process = subprocess.Popen(
            ["bash", "-c", line, "bash", chromium, *options], pass_fds=(commands, answers), stderr=subprocess.DEVNULL
        )
        os.close(commands)
        os.close(answers)
        self.left, self.number = b"", 0

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Return the answer to a command; raises RuntimeError where the browser refuses it or is gone."""
        self.number = number = self.number + 1
        message = {"id": number, "method": method, "params": parameters}
        message |= {"sessionId": session} if session else {}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.left:
                piece = os.read(self.read, 1 << 16)
                if not piece:
                    raise RuntimeError("the browser is gone")
                self.left += piece
            line, _, self.left = self.left.partition(b"\0")
            answer = json.loads(line)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.take(answer)

    def take(self, message: dict[str, Any]) -> None:
        """Pass over what the browser tells by itself."""

    def close(self) -> float:
        """End the browser, and return the processor seconds of all its processes."""
        before = sum(os.times()[2:4])
        self.call("Browser.close")
        self.process.wait(timeout=120)
        return sum(os.times()[2:4]) - before


class Page(Browser):
    """A page of its own browser, with the addresses that it asked for and what its console said."""

    def __init__(self, size: str = "wide", scheme: str = "light", password: str | None = None) -> None:
        """Open an empty page; password: what it answers where a server asks for one."""
        super().__init__("chromium")
        self.password = password
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session: str = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "DOM", "Log"):
            self.send(f"{domain}.enable")
        if password is not None:
            self.send("Fetch.enable", handleAuthRequests=True)
        self.show_as(size, scheme)

    def show_as(self, size: str, scheme: str) -> None:
        """Set the size of the window, and the colours that the reader prefers."""
        width, height = SIZES[size]
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=size == "narrow",
        )  # fmt: skip
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to the page."""
        return self.call(method, self.session, **parameters)

    def post(self, method: str, **parameters: Any) -> None:
        """Send a command whose answer nobody waits for."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters, "sessionId": self.session}
        os.write(self.write, json.dumps(message).encode() + b"\0")

    def take(self, message: dict[str, Any]) -> None:
        """Keep what the browser tells by itself, and answer what it waits for."""
        method, told = message.get("method"), message.get("params", {})
        if method == "Fetch.requestPaused":
            self.post("Fetch.continueRequest", requestId=told["requestId"])
        elif method == "Fetch.authRequired":
            login = {"response": "ProvideCredentials", "username": "me", "password": self.password}
            self.post("Fetch.continueWithAuth", requestId=told["requestId"], authChallengeResponse=login)
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"])[:500])
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")

    def open_address(self, address: str) -> None:
        """Open a page."""
        self.send("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise AssertionError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait_for(self, script: str, seconds: float = 180) -> Any:
        """Return the value of an expression once it is true; raises AssertionError where it never is.

        Until then it may also fail: what it looks at may be still to come, or the page before it has just gone.
        """
        deadline, failed = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            try:
                if found := self.run(script):
                    return found
            except (AssertionError, RuntimeError) as error:
                failed = str(error)
            time.sleep(0.1)
        raise AssertionError(f"never true: {script}\n{failed}\n{self.run('document.body.innerText')}\n{self.errors}")

    def settle(self) -> None:
        """Wait until the page has drawn itself again, twice: what it does in one frame may ask for another."""
        self.run(f"{FRAME}.then(() => {FRAME})")

    def upload(self, selector: str, path: Path) -> None:
        """Give a file to an input for files, once it is there."""
        self.wait_for(f"document.querySelector({json.dumps(selector)}) !== null")
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def click(self, selector: str) -> None:
        """Click the middle of an element, as a reader does: once it rests there, and nothing lies over it."""
        where = self.wait_for(REST.replace("SELECTOR", json.dumps(selector)))
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=where[0], y=where[1], button="left", clickCount=1)

    def fill(self, selector: str, text: str) -> None:
        """Write into a field, and press Enter."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.wait_for(f"{element}.focus() || (document.activeElement === {element} && !{element}.disabled)")
        self.send("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13,
                      **({"text": "\r"} if kind == "keyDown" else {}))  # fmt: skip

    def picture(self, path: Path, whole: bool = True) -> None:
        """Write what is seen as PNG."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
