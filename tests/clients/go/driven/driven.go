// Package driven is what the programs share that drive a client: what they are told, and how they answer.
// tests/clients/driven.py is the other side.
package driven

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Arguments are those of all commands. Zero: as the client has it by default.
type Arguments struct {
	Bootstrap      []string          `json:"bootstrap"`
	Newest         bool              `json:"newest"`
	Topic          string            `json:"topic"`
	Partition      int32             `json:"partition"`
	Codec          string            `json:"codec"`
	Idempotent     bool              `json:"idempotent"`
	Transactional  string            `json:"transactional"`
	RecordBytesMax int32             `json:"record_bytes_max"`
	Start          int64             `json:"start"`
	Count          int               `json:"count"`
	Committed      bool              `json:"committed"`
	PartitionBytes int32             `json:"partition_bytes"`
	FetchBytes     int32             `json:"fetch_bytes"`
	Group          string            `json:"group"`
	SessionMs      int               `json:"session_ms"`
	HeartbeatMs    int               `json:"heartbeat_ms"`
	What           string            `json:"what"`
	Partitions     int32             `json:"partitions"`
	Replicas       int16             `json:"replicas"`
	Configs        map[string]string `json:"configs"`
	Offset         int64             `json:"offset"`
	Time           int64             `json:"time"`
}

// Header of a record.
type Header struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
}

// Record on a line; null and empty are not the same.
type Record struct {
	Offset  int64    `json:"offset"`
	Key     []byte   `json:"key"`
	Value   []byte   `json:"value"`
	Headers []Header `json:"headers"`
	Time    int64    `json:"time,omitempty"`
}

// Command that is to be run, and its arguments.
func Command() (string, Arguments) {
	var arguments Arguments
	if err := json.Unmarshal([]byte(os.Args[2]), &arguments); err != nil {
		Fail(err)
	}
	return os.Args[1], arguments
}

// Records calls `each` with every record of standard input as it comes.
func Records(each func(Record)) {
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		var record Record
		if err == nil {
			err = json.Unmarshal(line, &record)
		}
		if err != nil {
			Fail(err)
		}
		each(record)
	}
}

// Tell writes an answer, or a record that was read.
func Tell(answer any) {
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		Fail(err)
	}
}

// Answer writes what an admin request was answered, or why it was refused.
func Answer(answer any, err error) {
	if err != nil {
		answer = map[string]string{"error": err.Error()}
	}
	Tell(answer)
}

// Fail ends the program: something went wrong that no case expects.
func Fail(err error) {
	fmt.Fprintln(os.Stderr, "[ERROR]", err)
	os.Exit(1)
}
