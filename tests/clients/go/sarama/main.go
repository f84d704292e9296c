// Sarama, driven by tests/clients/go_clients.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/IBM/sarama"

	"raftline/clients/driven"
)

var codecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

func main() {
	sarama.Logger = log.New(os.Stderr, "[sarama] ", 0)
	command, arguments := driven.Command()
	switch command {
	case "produce":
		produce(arguments)
	case "consume":
		consume(arguments)
	case "member":
		member(arguments)
	case "admin":
		driven.Answer(ask(arguments))
	default:
		driven.Fail(fmt.Errorf("no command %s", command))
	}
}

// config is the client's own, in its default version of the protocol, or the newest that it knows.
func config(arguments driven.Arguments) *sarama.Config {
	config := sarama.NewConfig()
	if arguments.Newest {
		config.Version = sarama.MaxVersion
	}
	return config
}

func produce(arguments driven.Arguments) {
	config := config(arguments)
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Return.Successes = true
	if arguments.Codec != "" {
		config.Producer.Compression = codecs[arguments.Codec]
	}
	if arguments.RecordBytesMax != 0 {
		config.Producer.MaxMessageBytes = int(arguments.RecordBytesMax)
	}
	config.Producer.Transaction.ID = arguments.Transactional
	if arguments.Idempotent {
		// The first three are what it demands; its three attempts are over before a new leader is there.
		config.Producer.Idempotent = true
		config.Producer.RequiredAcks = sarama.WaitForAll
		config.Net.MaxOpenRequests = 1
		config.Producer.Retry.Max = 1000
	}
	producer, err := sarama.NewAsyncProducer(arguments.Bootstrap, config)
	if err != nil {
		driven.Answer(nil, err)
		return
	}
	offsets := map[int]int64{}
	var failure error
	done := make(chan struct{})
	var waiting sync.WaitGroup
	go func() {
		defer close(done)
		successes, failures := producer.Successes(), producer.Errors()
		for successes != nil || failures != nil {
			select {
			case message, is := <-successes:
				if !is {
					successes = nil
				} else {
					offsets[message.Metadata.(int)] = message.Offset
					waiting.Done()
				}
			case failed, is := <-failures:
				if !is {
					failures = nil
				} else {
					if failure == nil {
						failure = failed.Err
					}
					waiting.Done()
				}
			}
		}
	}()
	count := 0
	driven.Records(func(given driven.Record) {
		message := &sarama.ProducerMessage{Topic: arguments.Topic, Partition: arguments.Partition, Metadata: count}
		// An encoder of nothing is not the same as none.
		if given.Key != nil {
			message.Key = sarama.ByteEncoder(given.Key)
		}
		if given.Value != nil {
			message.Value = sarama.ByteEncoder(given.Value)
		}
		if given.Time != 0 {
			message.Timestamp = time.UnixMilli(given.Time)
		}
		for _, header := range given.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(header.Name), Value: header.Value})
		}
		waiting.Add(1)
		producer.Input() <- message
		count++
	})
	// A producer that is told to close gives up some of what it has to send again.
	waiting.Wait()
	producer.AsyncClose()
	<-done
	ordered := make([]int64, count)
	for number := range ordered {
		ordered[number] = offsets[number]
	}
	driven.Answer(map[string]any{"offsets": ordered}, failure)
}

func consume(arguments driven.Arguments) {
	config := config(arguments)
	config.Consumer.Return.Errors = true
	if arguments.Committed {
		config.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	if arguments.PartitionBytes != 0 {
		config.Consumer.Fetch.Default = arguments.PartitionBytes
	}
	if arguments.FetchBytes != 0 {
		config.Consumer.Fetch.MaxBytes = arguments.FetchBytes
	}
	consumer, err := sarama.NewConsumer(arguments.Bootstrap, config)
	if err != nil {
		driven.Fail(err)
	}
	defer consumer.Close()
	taking, err := consumer.ConsumePartition(arguments.Topic, arguments.Partition, arguments.Start)
	if err != nil {
		driven.Fail(err)
	}
	defer taking.AsyncClose()
	for count := 0; count < arguments.Count; count++ {
		select {
		case found := <-taking.Messages():
			record := driven.Record{
				Offset: found.Offset, Key: found.Key, Value: found.Value, Time: found.Timestamp.UnixMilli(),
			}
			for _, header := range found.Headers {
				record.Headers = append(record.Headers, driven.Header{Name: string(header.Key), Value: header.Value})
			}
			driven.Tell(record)
		case err := <-taking.Errors():
			driven.Fail(err)
		}
	}
}

// writer writes each value, a number, on a line.
type writer struct{}

func (writer) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (writer) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (writer) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, is := <-claim.Messages():
			if !is {
				return nil
			}
			fmt.Println(string(message.Value))
			session.MarkMessage(message, "")
		case <-session.Context().Done():
			return nil
		}
	}
}

// member consumes until SIGTERM makes it leave.
func member(arguments driven.Arguments) {
	ending, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	config := config(arguments)
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Group.Session.Timeout = time.Duration(arguments.SessionMs) * time.Millisecond
	config.Consumer.Group.Heartbeat.Interval = time.Duration(arguments.HeartbeatMs) * time.Millisecond
	group, err := sarama.NewConsumerGroup(arguments.Bootstrap, arguments.Group, config)
	if err != nil {
		driven.Fail(err)
	}
	for ending.Err() == nil {
		err := group.Consume(ending, []string{arguments.Topic}, writer{})
		if err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, "[ERROR]", err)
		}
	}
	if err := group.Close(); err != nil {
		driven.Fail(err)
	}
}

func ask(arguments driven.Arguments) (any, error) {
	client, err := sarama.NewClient(arguments.Bootstrap, config(arguments))
	if err != nil {
		driven.Fail(err)
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		driven.Fail(err)
	}
	defer admin.Close()
	topic, group, partition := arguments.Topic, arguments.Group, arguments.Partition
	answer := map[string]any{}
	switch arguments.What {
	case "brokers":
		found, controller, err := admin.DescribeCluster()
		ids := []int32{}
		for _, broker := range found {
			ids = append(ids, broker.ID())
		}
		answer["brokers"], answer["controller"] = ids, controller
		return answer, err
	case "create":
		detail := &sarama.TopicDetail{
			NumPartitions: arguments.Partitions, ReplicationFactor: arguments.Replicas, ConfigEntries: pointers(arguments.Configs),
		}
		return answer, admin.CreateTopic(topic, detail, false)
	case "delete":
		return answer, admin.DeleteTopic(topic)
	case "topics":
		found, err := admin.ListTopics()
		names := []string{}
		for name := range found {
			names = append(names, name)
		}
		answer["topics"] = names
		return answer, err
	case "describe":
		found, err := admin.DescribeTopics([]string{topic})
		if err != nil {
			return nil, err
		}
		if found[0].Err != sarama.ErrNoError {
			return nil, found[0].Err
		}
		replicas := [][]int32{}
		for _, partition := range found[0].Partitions {
			replicas = append(replicas, partition.Replicas)
		}
		answer["replicas"] = replicas
		return answer, nil
	case "grow":
		return answer, admin.CreatePartitions(topic, arguments.Partitions, nil, false)
	case "configs":
		found, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
		for _, config := range found {
			answer[config.Name] = config.Value
		}
		return answer, err
	case "alter":
		changes := map[string]sarama.IncrementalAlterConfigsEntry{}
		for name, value := range pointers(arguments.Configs) {
			changes[name] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: value}
		}
		return answer, admin.IncrementalAlterConfig(sarama.TopicResource, topic, changes, false)
	case "delete_records":
		return answer, admin.DeleteRecords(topic, map[int32]int64{partition: arguments.Offset})
	case "offset":
		found, err := admin.ListOffsets(map[string]map[int32]int64{topic: {partition: arguments.Time}}, nil)
		if err != nil {
			return nil, err
		}
		// Here, too, no error is one of its errors.
		if refused := found[topic][partition].Err; refused != nil && refused != sarama.ErrNoError {
			return nil, refused
		}
		answer["offset"] = found[topic][partition].Offset
		return answer, nil
	case "commit":
		offset := sarama.OffsetAndMetadata{Offset: arguments.Offset, Metadata: "why not", LeaderEpoch: -1}
		offsets := map[string]map[int32]sarama.OffsetAndMetadata{topic: {partition: offset}}
		found, err := admin.AlterConsumerGroupOffsets(group, offsets, nil)
		if err != nil {
			return nil, err
		}
		if refused := found.Errors[topic][partition]; refused != sarama.ErrNoError {
			return nil, refused
		}
		return answer, nil
	case "committed":
		found, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {partition}})
		if err != nil {
			return nil, err
		}
		block := found.GetBlock(topic, partition)
		answer["offset"], answer["metadata"] = block.Offset, block.Metadata
		return answer, nil
	case "groups":
		found, err := admin.ListConsumerGroups()
		names := []string{}
		for name := range found {
			names = append(names, name)
		}
		answer["groups"] = names
		return answer, err
	case "describe_group":
		found, err := admin.DescribeConsumerGroups([]string{group})
		if err != nil {
			return nil, err
		}
		if found[0].Err != sarama.ErrNoError {
			return nil, found[0].Err
		}
		answer["state"], answer["members"] = found[0].State, len(found[0].Members)
		return answer, nil
	case "lag":
		return lag(client, admin, group, topic)
	case "delete_group":
		return answer, admin.DeleteConsumerGroup(group)
	}
	return nil, fmt.Errorf("no request %s", arguments.What)
}

// lag is what it has no request for: how far a group's offsets are behind the ends.
func lag(client sarama.Client, admin sarama.ClusterAdmin, group, topic string) (any, error) {
	partitions, err := client.Partitions(topic)
	if err != nil {
		return nil, err
	}
	committed, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: partitions})
	if err != nil {
		return nil, err
	}
	behind := int64(0)
	for _, partition := range partitions {
		end, err := client.GetOffset(topic, partition, sarama.OffsetNewest)
		if err != nil {
			return nil, err
		}
		behind += end - committed.GetBlock(topic, partition).Offset
	}
	return map[string]any{"lag": behind}, nil
}

func pointers(configs map[string]string) map[string]*string {
	found := map[string]*string{}
	for name, value := range configs {
		found[name] = &value
	}
	return found
}
