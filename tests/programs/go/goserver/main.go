// Servers as Go programs are: goserver COMMAND ARGUMENT...
//
//	http ADDRESS             answers path=, host=, peer=; /upgrade: a stream that echoes; /fetch?URL: as a client
//	https ADDRESS CERTIFICATE  the same with TLS, HTTP/2 too
//	client ADDRESS           answers as tests/lab/inbound.py wants: client=, header fields, trailers and the body; upgrades to an echo
//	run, server              as coderd, configured by the environment: http at $CODERD_ADDRESS
//	again TIMES              listens, serves one connection, closes, listens on the same port again
//	shared TIMES             the same while a connection of the listener before is still open
//	relay ADDRESS HOST:PORT  passes each connection on
//
// A server prints listening=ADDRESS, and ends when standard input does.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
)

func main() {
	if len(os.Args) == 2 && (os.Args[1] == "run" || os.Args[1] == "server") {
		os.Args = []string{os.Args[0], "http", os.Getenv("CODERD_ADDRESS")}
	}
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: goserver COMMAND ARGUMENT...")
		os.Exit(2)
	}
	var err error
	switch words := os.Args[2:]; os.Args[1] {
	case "http":
		err = serve(words[0], "")
	case "https":
		err = serve(words[0], words[1])
	case "client":
		err = serveClient(words[0])
	case "again":
		err = again(words[0], false)
	case "shared":
		err = again(words[0], true)
	case "relay":
		err = relay(words[0], words[1])
	default:
		err = errors.New("no such command: " + os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "goserver:", err)
		os.Exit(1)
	}
}

func untilInputEnds() { io.Copy(io.Discard, os.Stdin) }

func serve(address, certificate string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Printf("listening=%s\n", listener.Addr())
	handler := http.NewServeMux()
	handler.HandleFunc("/upgrade", upgrade)
	handler.HandleFunc("/fetch", fetch)
	handler.HandleFunc("/", func(writer http.ResponseWriter, request *http.Request) {
		fmt.Fprintf(writer, "path=%s\nhost=%s\npeer=%s\n", request.URL.Path, request.Host, request.RemoteAddr)
	})
	failed := make(chan error, 1)
	go func() {
		server := http.Server{Handler: handler}
		if certificate != "" {
			failed <- server.ServeTLS(listener, certificate, certificate)
		} else {
			failed <- server.Serve(listener)
		}
	}()
	go func() {
		untilInputEnds()
		failed <- nil
	}()
	return <-failed
}

func upgrade(writer http.ResponseWriter, _ *http.Request) {
	connection, buffered, err := writer.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer connection.Close()
	fmt.Fprint(connection, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	io.Copy(connection, buffered)
}

// What most servers are as well: a client.
func fetch(writer http.ResponseWriter, request *http.Request) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(request.URL.RawQuery)
	if err != nil {
		http.Error(writer, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	writer.WriteHeader(answer.StatusCode)
	io.Copy(writer, answer.Body)
}

func again(count string, shared bool) error {
	times, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	address, kept := "127.0.0.1:0", []net.Conn{}
	for i := 0; i < times; i++ {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("listen %d: %w", i, err)
		}
		address = listener.Addr().String()
		connection, err := ownConnection(listener, address)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		if shared {
			kept = append(kept, connection)
		} else {
			connection.Close()
		}
		if err := listener.Close(); err != nil {
			return err
		}
		// A copy of the listener that somebody kept would let this connection in, and hang.
		if lost, err := net.Dial("tcp", address); err == nil {
			lost.Close()
			return fmt.Errorf("listener %d is closed and still takes connections", i)
		} else if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("closed listener %d: %w", i, err)
		}
	}
	fmt.Printf("listened=%d\n", times)
	for _, connection := range kept {
		connection.Close()
	}
	return nil
}

func ownConnection(listener net.Listener, address string) (net.Conn, error) {
	dialed := make(chan error, 1)
	go func() {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			_, err = bufio.NewReader(connection).ReadString('\n')
			connection.Close()
		}
		dialed <- err
	}()
	connection, err := listener.Accept()
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(connection, "hello")
	return connection, <-dialed
}

func relay(address, to string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Printf("listening=%s\n", listener.Addr())
	go func() {
		for {
			inner, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer inner.Close()
				outer, err := net.Dial("tcp", to)
				if err != nil {
					fmt.Fprintln(inner, err)
					return
				}
				go func() {
					io.Copy(outer, inner)
					outer.(*net.TCPConn).CloseWrite()
				}()
				io.Copy(inner, outer)
			}()
		}
	}()
	untilInputEnds()
	return nil
}
