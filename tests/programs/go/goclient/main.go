// A client as Go programs are: every connection is made by the runtime's own system calls and its epoll set.
//
//	goclient COMMAND ARGUMENT...
//
// Each command prints key=value lines and ends with 0, or with 1 when it did not get what it wanted.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"
)

var commands = map[string]struct {
	words int
	run   func([]string) error
	usage string
}{
	"get":       {1, get, "get URL [CAFILE]"},
	"gets":      {2, gets, "gets N URL: one after another, each with a connection of its own"},
	"via":       {3, via, "via N URL PROXY: as gets, speaks CONNECT by itself"},
	"h2":        {2, h2, "h2 URL CAFILE"},
	"upgrade":   {1, upgrade, "upgrade HOST:PORT"},
	"dial":      {1, dial, "dial HOST:PORT: errno, addresses, and the first bytes"},
	"dials":     {2, dials, "dials N HOST:PORT: all at once"},
	"dials-via": {3, dialsVia, "dials-via N HOST:PORT PROXY: speaks CONNECT by itself"},
	"storm":     {2, storm, "storm N HOST:PORT: all at once, while signals arrive"},
	"timeout":   {2, timeout, "timeout DURATION HOST:PORT"},
	"cancel":    {1, cancel, "cancel HOST:PORT: when a line comes on standard input"},
	"long":      {3, long, "long CONNECTIONS ROUNDS HOST:PORT: echoes while the collector runs"},
	"hold":      {2, hold, "hold N HOST:PORT: open until standard input ends"},
	"sockets":   {1, sockets, "sockets N: socket and close"},
	"dns":       {1, dns, "dns NAME: with Go's own resolver"},
	"udp":       {2, udp, "udp HOST:PORT TEXT: a datagram, and what comes back"},
	"exec":      {1, run, "exec PROGRAM ARGUMENT..."},
}

func main() {
	if len(os.Args) > 1 {
		if command, known := commands[os.Args[1]]; known && len(os.Args)-2 >= command.words {
			if err := command.run(os.Args[2:]); err != nil {
				fmt.Println("error=" + describe(err))
				fmt.Fprintln(os.Stderr, "goclient:", err)
				os.Exit(1)
			}
			return
		}
	}
	for _, command := range commands {
		fmt.Fprintln(os.Stderr, "usage: goclient", command.usage)
	}
	os.Exit(2)
}

// The name of what happened: timeout, canceled, an errno's name or number, or the text.
func describe(err error) string {
	var number syscall.Errno
	var network net.Error
	switch {
	case errors.As(err, &number):
		if name, known := errnos[number]; known {
			return name
		}
		return "errno-" + strconv.Itoa(int(number))
	case errors.As(err, &network) && network.Timeout():
		return "timeout"
	}
	return err.Error()
}

var errnos = map[syscall.Errno]string{
	syscall.EACCES: "EACCES", syscall.ECONNREFUSED: "ECONNREFUSED", syscall.ECONNRESET: "ECONNRESET",
	syscall.EHOSTUNREACH: "EHOSTUNREACH", syscall.ENETUNREACH: "ENETUNREACH", syscall.ETIMEDOUT: "ETIMEDOUT",
	syscall.ENETDOWN: "ENETDOWN", syscall.EADDRNOTAVAIL: "EADDRNOTAVAIL", syscall.EPERM: "EPERM",
	syscall.EMFILE: "EMFILE", syscall.EADDRINUSE: "EADDRINUSE", syscall.ENOSYS: "ENOSYS", syscall.EPIPE: "EPIPE",
	syscall.EBADF: "EBADF", syscall.EINVAL: "EINVAL", syscall.ENOTCONN: "ENOTCONN", syscall.ENOMEM: "ENOMEM",
}

// Counts outcomes of things that happen at once.
type tally struct {
	lock  sync.Mutex
	count map[string]int
	begun time.Time
}

func newTally() *tally { return &tally{count: map[string]int{}, begun: time.Now()} }

func (t *tally) add(err error) {
	outcome := "ok"
	if err != nil {
		outcome = describe(err)
	}
	t.lock.Lock()
	defer t.lock.Unlock()
	t.count[outcome]++
}

// Fails unless everything went well.
func (t *tally) report() error {
	names := []string{}
	for name := range t.count {
		names = append(names, name)
	}
	sort.Strings(names)
	wrong := 0
	for _, name := range names {
		fmt.Printf("%s=%d\n", name, t.count[name])
		if name != "ok" {
			wrong += t.count[name]
		}
	}
	fmt.Printf("ms=%d\n", time.Since(t.begun).Milliseconds())
	if wrong != 0 {
		return fmt.Errorf("%d of them failed", wrong)
	}
	return nil
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, "goclient:", err)
		os.Exit(2)
	}
	return value
}
