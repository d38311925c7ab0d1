# suite: quick
"""tests/vectors/http-messages.json next to node's parser: whatever our framing accepts, node reads as the same messages.
(Boost.Beast is compared in tests/unit/http_messages.cpp. What we refuse is nobody else's business.)"""

import json
import os

from lab.case import LabCase, main

REFUSED_BY_NODE = {"UTF-8 in the target"}  # curl sends that; everybody who takes it reads it alike
VECTORS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "vectors", "http-messages.json")

# Feeds each stream to a server (or a client) of node's http module over a connection in memory, and prints what it saw:
# [method or status, body as latin-1, trailers] per message.
_NODE = r"""
const http = require("http"), { Duplex } = require("stream");
function wire(text, asked_first) {
  let waiting = Buffer.from(text, "latin1");
  const give = duplex => { const now = waiting; waiting = null; if (now) duplex.push(now); };
  const duplex = new Duplex({
    read() { if (!asked_first) give(this); },
    write(chunk, encoding, done) { done(); give(this); } });
  duplex.setTimeout = duplex.setNoDelay = duplex.setKeepAlive = duplex.ref = duplex.unref = () => duplex;
  duplex.remoteAddress = "192.0.2.1";
  return duplex;
}
function collect(message, seen, first) {
  const one = [first, "", 0];
  seen.push(one);
  message.on("data", data => one[1] += data.toString("latin1"));
  message.on("end", () => one[2] = message.rawTrailers.length / 2);
}
function request(row) {
  return new Promise(resolve => {
    const seen = [];
    const handle = (message, answer) => {
      collect(message, seen, message.method);
      message.on("end", () => answer.end());
    };
    const server = http.createServer({ insecureHTTPParser: false }, handle);
    server.on("checkContinue", handle);
    server.on("clientError", () => {});
    server.emit("connection", wire(row.wire));
    setImmediate(function settle(rounds = 0) { rounds < 300 ? setImmediate(settle, rounds + 1) : resolve(seen); });
  });
}
function response(row) {
  return new Promise(resolve => {
    const seen = [];
    const method = { head: "HEAD" }[(row.asked || [])[0]] || "GET";
    const asking = http.request({ method, createConnection: () => wire(row.wire, true) });
    asking.on("information", info => seen.push([info.statusCode, "", 0]));
    asking.on("response", message => collect(message, seen, message.statusCode));
    asking.on("error", () => {});
    asking.end();
    setImmediate(function settle(rounds = 0) { rounds < 300 ? setImmediate(settle, rounds + 1) : resolve(seen); });
  });
}
(async () => {
  for (const row of JSON.parse(require("fs").readFileSync(process.argv[1])).streams)
    console.log(JSON.stringify(await (row.kind === "request" ? request : response)(row)));
  process.exit(0);
})();
"""


def expected(row):
    """The messages of a stream that is accepted: [first word, body, number of trailers]."""
    out, begin = [], 0
    for end in row["ends"]:
        head, _, body = row["wire"][begin:end].partition("\r\n\r\n")
        first = head.split(" ")[0] if row["kind"] == "request" else int(head.split(" ")[1][:3])
        trailers = 0
        if "\r\ntransfer-encoding: chunked" in head.lower() and body:
            body, trailers = unchunked(body)
        out.append([first, body, trailers])
        begin = end
    return out


def unchunked(text):
    out = ""
    while True:
        line, _, text = text.partition("\r\n")
        size = int(line.split(";")[0], 16)
        if size == 0:
            return out, text.count("\r\n") - 1
        out, text = out + text[:size], text[size + 2:]


class Corpus(LabCase):
    def test_node_reads_the_same_messages(self):
        with open(VECTORS) as file:
            rows = json.load(file)["streams"]
        result = self.assert_ran(self.bare(self.need("node"), "-e", _NODE, VECTORS))
        seen = [json.loads(line) for line in result.out.splitlines()]
        self.assertEqual(len(seen), len(rows))
        compared = 0
        for row, node in zip(rows, seen):
            if row["flaw"] != "none" or not row["ends"] or len(row.get("asked", [])) > 1:
                continue  # node asks once per connection
            with self.subTest(row["kind"] + ": " + row["name"]):
                wanted = [] if row["name"] in REFUSED_BY_NODE else expected(row)
                self.assertEqual(node[:len(row["ends"])], wanted)
                compared += 1
        self.assertGreater(compared, 25)


if __name__ == "__main__":
    main()
