package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sort"
	"time"
)

// A client that does not know of any proxy, whatever the environment says.
func client(authority string) (*http.Client, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	if authority != "" {
		text, err := os.ReadFile(authority)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(text)
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
		transport.ForceAttemptHTTP2 = true
	}
	return &http.Client{Transport: transport}, nil
}

func fetch(client *http.Client, address string) (string, *http.Response, error) {
	response, err := client.Get(address)
	if err != nil {
		return "", nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return string(body), response, err
}

func get(words []string) error {
	one, err := client(append(words, "")[1])
	if err != nil {
		return err
	}
	body, _, err := fetch(one, words[0])
	fmt.Print(body)
	return err
}

func h2(words []string) error {
	one, err := client(words[1])
	if err != nil {
		return err
	}
	body, response, err := fetch(one, words[0])
	if response != nil {
		fmt.Printf("proto=%s\n", response.Proto)
	}
	fmt.Print(body)
	return err
}

func gets(words []string) error {
	one, _ := client("")
	return timed(number(words[0]), one, words[1])
}

// The floor of gets: no tool can be faster than a program that asks the proxy itself.
func via(words []string) error {
	one, _ := client("")
	one.Transport.(*http.Transport).DialContext = func(ours context.Context, _, to string) (net.Conn, error) {
		return dialVia(ours, words[2], to)
	}
	return timed(number(words[0]), one, words[1])
}

func dialsVia(words []string) error {
	return atOnce(number(words[0]), func() error {
		connection, err := dialVia(context.Background(), words[2], words[1])
		if err != nil {
			return err
		}
		return touched(connection)
	}).report()
}

func dialVia(ours context.Context, proxy, to string) (net.Conn, error) {
	var dialer net.Dialer
	connection, err := dialer.DialContext(ours, "tcp", proxy)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(connection, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", to, to)
	reader := bufio.NewReader(connection)
	answer, err := http.ReadResponse(reader, &http.Request{Method: "CONNECT"})
	if err == nil && (answer.StatusCode != 200 || reader.Buffered() != 0) {
		err = errors.New("the proxy said " + answer.Status)
	}
	return connection, err
}

// Prints what the bench wants: microseconds for one request on a connection of its own.
func timed(count int, one *http.Client, address string) error {
	took := make([]int64, count)
	for i := range took {
		begin := time.Now()
		if _, _, err := fetch(one, address); err != nil {
			return err
		}
		took[i] = time.Since(begin).Microseconds()
	}
	sort.Slice(took, func(a, b int) bool { return took[a] < took[b] })
	fmt.Printf("median_us=%d\np99_us=%d\n", took[count/2], took[count*99/100])
	return nil
}

// HTTP Upgrade, then lines that come back.
func upgrade(words []string) error {
	target := url.URL{Scheme: "http", Host: words[0], Path: "/upgrade"}
	request, err := http.NewRequest("GET", target.String(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "echo")
	one, _ := client("")
	one.Transport.(*http.Transport).DisableKeepAlives = false // it would be a second Connection header
	response, err := one.Do(request)
	if err != nil {
		return err
	}
	stream, good := response.Body.(io.ReadWriteCloser)
	fmt.Printf("status=%d\n", response.StatusCode)
	if !good || response.StatusCode != http.StatusSwitchingProtocols {
		return errors.New("no upgrade")
	}
	defer stream.Close()
	reader := bufio.NewReader(stream)
	for i := 0; i < 100; i++ {
		sent := fmt.Sprintf("line %d\n", i)
		if _, err := io.WriteString(stream, sent); err != nil {
			return err
		}
		if got, err := reader.ReadString('\n'); err != nil || got != sent {
			return fmt.Errorf("echo of %q was %q: %w", sent, got, err)
		}
	}
	fmt.Println("echoes=100")
	return nil
}
