"""A program: connections one after another, from several threads, to a host that echoes.

    stream.py WORKERS HOST PORT [PER_SECOND]

Each makes a tunnel, sends a word, reads it back and closes. A line `ok=N errors={"ENAME": N, ...}` after each that came
to an end, so that whoever watches can wait for the next ones. Runs until it is killed.
"""

import errno
import json
import socket
import sys
import threading
import time

workers, host, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
pause = workers / float(sys.argv[4]) if len(sys.argv) > 4 else 0
lock = threading.Lock()
ok, errors = 0, {}


def once(word):
    try:
        with socket.create_connection((host, port), timeout=30) as peer:
            peer.sendall(word)
            back = peer.recv(len(word), socket.MSG_WAITALL)
            return "" if back == word else f"CUT:{len(back)}"
    except OSError as error:
        return errno.errorcode.get(error.errno, repr(error))


def work(number):
    global ok
    word = b"worker %04d" % number
    while True:
        failed = once(word)
        with lock:
            if failed:
                errors[failed] = errors.get(failed, 0) + 1
            else:
                ok += 1
            print(f"ok={ok} errors={json.dumps(errors)}", flush=True)
        if pause or failed:
            time.sleep(pause or 0.01)


for each in range(workers):
    threading.Thread(target=work, args=(each,)).start()
