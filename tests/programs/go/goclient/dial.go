package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

func dial(words []string) error {
	connection, err := net.Dial("tcp", words[0])
	if err != nil {
		return err
	}
	defer connection.Close()
	fmt.Printf("peer=%s\n", connection.RemoteAddr())
	buffer := make([]byte, 64)
	count, err := connection.Read(buffer)
	fmt.Printf("read=%q\n", buffer[:count])
	if err != nil && err != io.EOF {
		return err
	}
	return nil
}

func atOnce(count int, what func() error) *tally {
	result, all := newTally(), sync.WaitGroup{}
	for i := 0; i < count; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			result.add(what())
		}()
	}
	all.Wait()
	return result
}

// Nothing but the dial, and a byte that has to come back: a tunnel that only seems to stand would not echo it.
func touch(to string) error {
	connection, err := net.Dial("tcp", to)
	if err != nil {
		return err
	}
	return touched(connection)
}

func touched(connection net.Conn) error {
	defer connection.Close()
	byteOut, byteIn := []byte{'t'}, []byte{0}
	if _, err := connection.Write(byteOut); err != nil {
		return err
	}
	if _, err := io.ReadFull(connection, byteIn); err != nil {
		return err
	}
	if byteIn[0] != byteOut[0] {
		return errors.New("foreign-byte")
	}
	return nil
}

func dials(words []string) error {
	return atOnce(number(words[0]), func() error { return touch(words[1]) }).report()
}

func storm(words []string) error {
	// A handler of our own for SIGALRM; SIGURG is what the runtime interrupts its own threads with.
	alarms := make(chan os.Signal, 1)
	signal.Notify(alarms, syscall.SIGALRM)
	type interval struct{ every, first syscall.Timeval }
	millisecond := interval{syscall.Timeval{Usec: 1000}, syscall.Timeval{Usec: 1000}}
	if _, _, failed := syscall.RawSyscall(syscall.SYS_SETITIMER, 0, uintptr(unsafe.Pointer(&millisecond)), 0); failed != 0 {
		return failed
	}
	done := make(chan struct{})
	heard, spun := 0, sync.WaitGroup{}
	spun.Add(2)
	go func() {
		defer spun.Done()
		for {
			select {
			case <-alarms:
				heard++
			case <-done:
				return
			}
		}
	}()
	go func() {
		defer spun.Done()
		for {
			select {
			case <-done:
				return
			default:
				// To every thread, also to those that are in connect.
				if threads, err := os.ReadDir("/proc/self/task"); err == nil {
					for _, thread := range threads {
						syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(os.Getpid()), uintptr(number(thread.Name())), uintptr(syscall.SIGURG))
					}
				}
				time.Sleep(time.Millisecond)
			}
		}
	}()
	result := atOnce(number(words[0]), func() error { return touch(words[1]) })
	close(done)
	spun.Wait()
	fmt.Printf("alarms=%d\n", heard)
	return result.report()
}

func timeout(words []string) error {
	limit, err := time.ParseDuration(words[0])
	if err != nil {
		return err
	}
	begin := time.Now()
	dialer := net.Dialer{Timeout: limit}
	connection, err := dialer.Dial("tcp", words[1])
	fmt.Printf("ms=%d\n", time.Since(begin).Milliseconds())
	if err == nil {
		connection.Close()
	}
	return err
}

func cancel(words []string) error {
	ours, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		os.Stdin.Read(make([]byte, 1))
		stop()
	}()
	var dialer net.Dialer
	connection, err := dialer.DialContext(ours, "tcp", words[0])
	if err == nil {
		connection.Close()
	}
	if ours.Err() != nil && err != nil {
		return errors.New("canceled")
	}
	return err
}

// Connections that live while goroutines come and go and the collector stops the world.
func long(words []string) error {
	rounds, result := number(words[1]), newTally()
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		collections := 0
		for {
			select {
			case <-stop:
				stopped <- collections
				return
			default:
				runtime.GC()
				collections++
			}
		}
	}()
	all := sync.WaitGroup{}
	for i := 0; i < number(words[0]); i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			result.add(echo(words[2], rounds, byte(i)))
		}(i)
	}
	all.Wait()
	close(stop)
	fmt.Printf("collections=%d\n", <-stopped)
	return result.report()
}

func echo(to string, rounds int, seed byte) error {
	connection, err := net.Dial("tcp", to)
	if err != nil {
		return err
	}
	defer connection.Close()
	for round := 0; round < rounds; round++ {
		sent := bytes.Repeat([]byte{seed, byte(round)}, 2048) // garbage for the collector
		if _, err := connection.Write(sent); err != nil {
			return err
		}
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(connection, got); err != nil {
			return err
		}
		if !bytes.Equal(sent, got) {
			return errors.New("foreign-bytes")
		}
	}
	return nil
}

func hold(words []string) error {
	result, lock, held := newTally(), sync.Mutex{}, []net.Conn{}
	turn := make(chan struct{}, 64)
	all := sync.WaitGroup{}
	for i := 0; i < number(words[0]); i++ {
		all.Add(1)
		turn <- struct{}{}
		go func() {
			defer all.Done()
			connection, err := net.Dial("tcp", words[1])
			result.add(err)
			<-turn
			if err == nil {
				lock.Lock()
				held = append(held, connection)
				lock.Unlock()
			}
		}()
	}
	all.Wait()
	wrong := result.report()
	fmt.Println("held=" + fmt.Sprint(len(held)))
	io.Copy(io.Discard, os.Stdin)
	for _, connection := range held {
		connection.Close()
	}
	fmt.Println("closed=" + fmt.Sprint(len(held)))
	os.Stdin.Close()
	return wrong
}

func sockets(words []string) error {
	result := newTally()
	for i := 0; i < number(words[0]); i++ {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err == nil {
			err = syscall.Close(fd)
		}
		result.add(err)
	}
	return result.report()
}

func dns(words []string) error {
	resolver := net.Resolver{PreferGo: true}
	addresses, err := resolver.LookupHost(context.Background(), words[0])
	for _, address := range addresses {
		fmt.Printf("address=%s\n", address)
	}
	return err
}

func udp(words []string) error {
	connection, err := net.Dial("udp", words[0])
	if err != nil {
		return err
	}
	defer connection.Close()
	if _, err := connection.Write([]byte(words[1])); err != nil {
		return err
	}
	buffer := make([]byte, 2048)
	count, err := connection.Read(buffer)
	fmt.Printf("read=%q\n", buffer[:count])
	return err
}

func run(words []string) error {
	child := exec.Command(words[0], words[1:]...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := child.Run()
	var status *exec.ExitError
	if errors.As(err, &status) {
		os.Exit(status.ExitCode())
	}
	return err
}
