// A plug-in in Go for a program of another language (-buildmode=c-shared): fetch(URL) prints what it got, 0 or 1.
package main

import "C"

import (
	"fmt"
	"io"
	"net/http"
)

//export fetch
func fetch(url *C.char) C.int {
	answer, err := http.Get(C.GoString(url))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 1
	}
	fmt.Print(string(text))
	return 0
}

func main() {}
