package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
)

// Says which client it sees, and everything that it was told.
func serveClient(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Printf("listening=%s\n", listener.Addr())
	return http.Serve(listener, http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		text := new(bytes.Buffer)
		host, _, _ := net.SplitHostPort(request.RemoteAddr)
		fmt.Fprintf(text, "client=%s\n", host)
		if request.Header.Get("Upgrade") == "echo" {
			echo(writer, text.String())
			return
		}
		request.Header.Write(text)
		io.Copy(text, request.Body)
		request.Trailer.Write(text)
		writer.Write(text.Bytes())
	}))
}

func echo(writer http.ResponseWriter, first string) {
	connection, buffered, err := writer.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer connection.Close()
	fmt.Fprint(connection, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", first)
	io.Copy(connection, buffered)
}
