# suite: quick
"""The relay that asks a proxy in absolute form, and programs and proxies that misbehave; Upgrade."""

import threading

from lab import proc
from lab.absolute import RESET, field, ok
from lab.case import TOWPATH, main
from lab.client import client
from lab.origin import RawOrigin
from test_plain_http_relay import GET, NAME, TALK, RelayCase


class Misbehaviour(RelayCase):
    """Nothing here may hang, reach another connection, or look like success."""

    def test_bytes_that_are_no_http(self):
        for text in ("SSH-2.0-OpenSSH_9.2\r\n", "\x16\x03\x01", "EHLO me\r\n", "\r\nGET / HTTP/1.1\r\n\r\n", "GET /\r\n",
                     "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            with self.subTest(text):
                result = self.send(text)
                self.assertIn("read=b''\nend=ECONNRESET", result.out)
                self.assertRegex(self.logged(result, "not_plain_http"), 'reason=".*hint=".*exempt')
        self.assertEqual(self.proxy.heads(), [])

    def test_requests_that_two_readers_would_read_in_two_ways(self):
        head = f"POST / HTTP/1.1\r\nHost: {NAME}\r\n"
        for text in (head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                     head + "Transfer-Encoding: xchunked\r\n\r\n", head + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
                     head + "X: a\r\n b\r\n\r\n", head + "X : a\r\n\r\n", head + "X: a\n\r\n", head + head[17:] + "\r\n",
                     "GET / HTTP/1.1\r\n\r\n", "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n",
                     "GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n"):
            with self.subTest(text):
                result = self.send(text)
                self.assertIn("read=b''\nend=ECONNRESET", result.out)
                self.assertRegex(result.err, "event=(not_plain_http|plain_http_refused)")
        self.assertEqual(self.proxy.heads(), [])

    def test_an_endless_head(self):
        result = self.send(GET[:-2] + "X: " + "x" * 70000)
        self.assertIn("end=ECONNRESET", result.out)
        self.assertIn("64 KB", self.logged(result, "not_plain_http"))

    def test_a_bad_chunk_resets_both(self):
        result = self.send(f"POST / HTTP/1.1\r\nHost: {NAME}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!!")
        self.assertIn("end=ECONNRESET", result.out)
        self.logged(result, "plain_http_refused")
        self.assertTrue(self.proxy.connections[-1].ended.wait(proc.scaled(10)))

    def test_the_answer_before_a_bad_request_is_given(self):
        result = self.send(GET + "nonsense\r\n\r\n")
        self.assertIn(r"\r\n\r\nfine\n", result.out)
        self.logged(result, "plain_http_refused")

    def test_a_request_that_is_cut_is_not_sent_as_a_whole(self):
        ended = []

        def answer(connection, head, body):
            try:
                connection.take(10)
            except (EOFError, OSError) as failure:
                ended.append(type(failure).__name__)
            return None
        self.serve(answer)
        # Larger than what the scripted proxy reads by itself.
        result = self.send(f"POST / HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 2000000\r\n\r\nhello", "shut")
        self.assertIn("read=b''", result.out)
        proc.wait_until(lambda: ended, "the proxy to see the end")
        self.assertEqual(ended, ["ConnectionResetError"])

    def test_a_server_that_would_speak_first(self):
        self.serve(more="connectTimeout: 300ms")
        for text in ("", "GET / HTTP/1.1\r\n"):
            result = self.send(text)
            self.assertIn("read=b''\nend=ECONNRESET", result.out)
            self.assertRegex(self.logged(result, "plain_http_silent"), "speak first.*hint=.*exempt")

    def test_answers_that_are_not_valid(self):
        for bad in (b"SSH-2.0-x\r\n", b"HTTP/1.1 200 ok\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
                    b"HTTP/1.1 200 ok\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", b"HTTP/1.1 101 x\r\nUpgrade: x\r\n\r\n",
                    b"HTTP/1.1 200 ok\r\nX: a\r\n b\r\n\r\n", b"HTTP/1.1 200 ok\r\nX: " + b"x" * 70000,
                    b"HTTP/1.1 204 ok\r\nContent-Length: 5\r\n\r\nhello"):
            with self.subTest(bad[:40]):
                self.serve(lambda connection, head, body: bad)
                result = self.send(GET)
                self.assertIn("end=ECONNRESET", result.out)
                self.assertNotIn("hello", result.out)
                self.logged(result, "plain_http_failed")

    def test_answers_that_are_cut(self):
        for cut in (b"HTTP/1.1 200 ok\r\nContent-Length: 9\r\n\r\nhello", b"HTTP/1.1 200 ok\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
                    b"HTTP/1.1 200 ok\r\nContent-"):
            with self.subTest(cut):
                self.serve(lambda connection, head, body: connection.socket.sendall(cut))
                result = self.send(GET)
                self.assertIn("end=ECONNRESET", result.out)
                self.logged(result, "plain_http_failed")

    def test_a_body_until_the_end_that_is_reset(self):
        def answer(connection, head, body):
            connection.socket.sendall(b"HTTP/1.1 200 ok\r\n\r\nhello")
            go.wait(proc.scaled(10))
            return RESET
        go = threading.Event()
        self.serve(answer)
        program = self.spawn("program", TOWPATH, "run", "-c", self.config, "--",
                             *client("blocking", NAME, 80, f"send={GET}"))
        self.proxy.wait_heads(1)
        go.set()
        program.wait_line("end=ECONNRESET")

    def test_bytes_behind_an_answer_are_nobodys(self):
        answers = [ok(b"one") + ok(b"forged"), ok(b"two")]
        self.serve(lambda connection, head, body: answers.pop(0))
        result = self.talk(GET, GET)
        self.assertIn("body='two'\nleft=''", result.out)
        self.assertNotIn("forged", result.out)

    def test_a_proxy_that_is_gone_when_asked_again(self):
        # It takes the second request of a connection, and closes; with "Connection: keep-alive" it had promised not to.
        for promise in (b"", b"Connection: keep-alive\r\n"):
            asked = []

            def answer(connection, head, body):
                if len(connection.heads) == 2:
                    return None
                asked.append(head.split(" ")[0])
                return b"HTTP/1.1 200 OK\r\n" + promise + b"Content-Length: 3\r\n\r\none"
            self.serve(answer, more="plainHttp: absolute")
            result = self.talk(GET, GET.replace("GET", "HEAD"), GET)
            self.assertEqual(result.out.count("HTTP/1.1 200 OK"), 3)
            self.assertEqual(asked, ["GET", "HEAD", "GET"])
            self.assertNotIn("level=", result.err)
            post = f"POST / HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 2\r\n\r\nok"
            result = self.towpath("/usr/bin/python3", "-c", TALK, NAME, *[one.encode("unicode_escape").decode() for one in (GET, post)])
            posts = [head for head in self.proxy.heads() if head.startswith("POST")]
            self.assertEqual(len(posts), 1)
            if promise:  # it may have been carried out: not again
                self.assertIn("ConnectionResetError", result.err)
                self.assertIn("closed without an answer", self.logged(result, "plain_http_failed"))
            else:        # on a connection of its own
                self.assertEqual(result.out.count("HTTP/1.1 200 OK"), 2)

    def test_a_request_is_not_sent_twice(self):
        for request in (GET, f"POST / HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 2\r\n\r\nok"):
            self.serve(lambda connection, head, body: None)
            result = self.send(request)
            self.assertIn("read=b''\nend=ECONNRESET", result.out)
            self.assertIn("closed without an answer", self.logged(result, "plain_http_failed"))
            self.assertEqual(len(self.proxy.heads()), 1)
        # Nor after one that was answered over a connection that has gone since.
        answers = [ok(b"one", b"Connection: close")]
        self.serve(lambda connection, head, body: connection.socket.sendall(answers.pop()) if answers else None)
        self.assertIn("one", self.send(GET * 2).out)
        self.assertEqual(len(self.proxy.heads()), 2)


class Upgrade(RelayCase):
    REQUEST = f"GET /ws HTTP/1.1\r\nHost: {NAME}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"

    def test_through_a_tunnel_where_there_is_one(self):
        origin = self.use(RawOrigin())
        self.serve(more="plainHttp: absolute", tunnels=origin.address)
        # What comes back is what was sent: the origin echoes the request as it was written.
        result = self.send(self.REQUEST + "\x01frames", "shut")
        self.assertIn(repr((self.REQUEST + "\x01frames").encode()), result.out)
        self.assertIn("end=eof", result.out)
        self.assertEqual(self.proxy.targets(), [f"CONNECT {NAME}:80"])

    def test_in_the_middle_of_a_connection(self):
        origin = self.use(RawOrigin())
        self.serve(more="plainHttp: absolute", tunnels=origin.address)
        result = self.send(GET + self.REQUEST, "shut")
        self.assertIn("fine", result.out)
        self.assertIn("Upgrade: websocket", result.out)
        self.assertEqual(self.proxy.targets(), [f"GET http://{NAME}/a?b", f"CONNECT {NAME}:80"])

    def test_without_a_tunnel_the_wish_is_taken_out(self):
        for mode, connects in (("auto", 1), ("absolute", 1)):
            self.serve(more=f"plainHttp: {mode}")
            result = self.talk(self.REQUEST, self.REQUEST)
            self.assertEqual(result.out.count("200 OK"), 2)
            self.assertEqual(len([one for one in self.proxy.targets() if one.startswith("CONNECT")]), connects)
            for head in self.proxy.heads():
                self.assertEqual(field(head, "Upgrade") + field(head, "Connection"), [])
            self.logged(result, "plain_http_upgrade")

    def test_connect_through_the_destination(self):
        origin = self.use(RawOrigin(banner=b"HTTP/1.1 200 ok\r\n\r\n"))
        self.serve(more="plainHttp: absolute", tunnels=origin.address)
        result = self.send("CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\nhello", "shut")
        self.assertIn(r"hello'", result.out)


if __name__ == "__main__":
    main()
