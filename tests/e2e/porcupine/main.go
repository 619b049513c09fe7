// Judges histories of a partition as a list with Porcupine, which searches for a linearization without
// knowing what the order is. A line of standard input is a history: a JSON list of operations
// {"c": client, "b": began, "e": ended (ns), "k": "a" with "n" = the offset it answered, or "r" with "n" =
// the length it saw}. A line of standard output is "ok", "illegal" or "unknown".
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

type operation struct {
	C int
	B int64
	E int64
	K string
	N int
}

var list = porcupine.Model{
	Init: func() interface{} { return 0 },
	Step: func(state, input, output interface{}) (bool, interface{}) {
		length, n := state.(int), output.(int)
		if input.(string) == "a" {
			return n == length, length + 1
		}
		return n == length, length
	},
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var history []operation
		if err := json.Unmarshal(line, &history); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		operations := make([]porcupine.Operation, len(history))
		for i, o := range history {
			operations[i] = porcupine.Operation{ClientId: o.C, Input: o.K, Call: o.B, Output: o.N, Return: o.E}
		}
		switch porcupine.CheckOperationsTimeout(list, operations, time.Minute) {
		case porcupine.Ok:
			fmt.Println("ok")
		case porcupine.Illegal:
			fmt.Println("illegal")
		default:
			fmt.Println("unknown")
		}
	}
}
