// franz-go, driven by tests/clients/go_clients.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"raftline/clients/driven"
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func main() {
	command, arguments := driven.Command()
	switch command {
	case "produce":
		produce(arguments)
	case "consume":
		consume(arguments)
	case "member":
		member(arguments)
	case "admin":
		admin(arguments)
	default:
		driven.Fail(fmt.Errorf("no command %s", command))
	}
}

func client(arguments driven.Arguments, options ...kgo.Opt) *kgo.Client {
	options = append(options,
		kgo.SeedBrokers(arguments.Bootstrap...),
		kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelWarn, nil)),
	)
	client, err := kgo.NewClient(options...)
	if err != nil {
		driven.Fail(err)
	}
	return client
}

func produce(arguments driven.Arguments) {
	options := []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner())}
	if arguments.Codec != "" {
		options = append(options, kgo.ProducerBatchCompression(codecs[arguments.Codec]))
	}
	if arguments.RecordBytesMax != 0 {
		options = append(options, kgo.ProducerBatchMaxBytes(arguments.RecordBytesMax))
	}
	client := client(arguments, options...)
	defer client.Close()
	var records []*kgo.Record
	var failure error
	driven.Records(func(given driven.Record) {
		record := &kgo.Record{
			Topic: arguments.Topic, Partition: arguments.Partition, Key: given.Key, Value: given.Value,
		}
		if given.Time != 0 {
			record.Timestamp = time.UnixMilli(given.Time)
		}
		for _, header := range given.Headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
		}
		records = append(records, record)
		// Promises are called one after the other.
		client.Produce(context.Background(), record, func(_ *kgo.Record, err error) {
			if failure == nil {
				failure = err
			}
		})
	})
	if err := client.Flush(context.Background()); err != nil {
		driven.Fail(err)
	}
	offsets := make([]int64, 0, len(records))
	for _, record := range records {
		offsets = append(offsets, record.Offset)
	}
	driven.Answer(map[string]any{"offsets": offsets}, failure)
}

func consume(arguments driven.Arguments) {
	options := []kgo.Opt{kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		arguments.Topic: {arguments.Partition: kgo.NewOffset().At(arguments.Start)},
	})}
	if arguments.Committed {
		options = append(options, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if arguments.PartitionBytes != 0 {
		options = append(options, kgo.FetchMaxPartitionBytes(arguments.PartitionBytes))
	}
	if arguments.FetchBytes != 0 {
		options = append(options, kgo.FetchMaxBytes(arguments.FetchBytes), kgo.FetchMaxPartitionBytes(arguments.FetchBytes))
	}
	client := client(arguments, options...)
	defer client.Close()
	for count := 0; count < arguments.Count; {
		fetches := client.PollRecords(context.Background(), arguments.Count-count)
		for _, failed := range fetches.Errors() {
			driven.Fail(failed.Err)
		}
		fetches.EachRecord(func(found *kgo.Record) {
			record := driven.Record{
				Offset: found.Offset, Key: found.Key, Value: found.Value, Time: found.Timestamp.UnixMilli(),
			}
			for _, header := range found.Headers {
				record.Headers = append(record.Headers, driven.Header{Name: header.Key, Value: header.Value})
			}
			driven.Tell(record)
			count++
		})
	}
}

// member writes each value, a number, on a line, until SIGTERM makes it leave.
func member(arguments driven.Arguments) {
	ending, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	options := []kgo.Opt{
		kgo.ConsumerGroup(arguments.Group),
		kgo.ConsumeTopics(arguments.Topic),
		kgo.SessionTimeout(time.Duration(arguments.SessionMs) * time.Millisecond),
		kgo.HeartbeatInterval(time.Duration(arguments.HeartbeatMs) * time.Millisecond),
	}
	if arguments.Newest {
		// The group protocol of KIP-848.
		options = append(options, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
	}
	client := client(arguments, options...)
	for ending.Err() == nil {
		fetches := client.PollFetches(ending)
		for _, failed := range fetches.Errors() {
			if !errors.Is(failed.Err, context.Canceled) {
				fmt.Fprintln(os.Stderr, "[ERROR]", failed.Topic, failed.Partition, failed.Err)
			}
		}
		fetches.EachRecord(func(record *kgo.Record) { fmt.Println(string(record.Value)) })
	}
	// It leaves the group, too, and commits what it was given before it does.
	client.Close()
}

func admin(arguments driven.Arguments) {
	client := client(arguments)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	driven.Answer(ask(ctx, kadm.NewClient(client), arguments))
}

func ask(ctx context.Context, client *kadm.Client, arguments driven.Arguments) (any, error) {
	topic, group, partition := arguments.Topic, arguments.Group, arguments.Partition
	answer := map[string]any{}
	switch arguments.What {
	case "brokers":
		found, err := client.BrokerMetadata(ctx)
		answer["brokers"], answer["controller"] = found.Brokers.NodeIDs(), found.Controller
		return answer, err
	case "create":
		configs := map[string]*string{}
		for name, value := range arguments.Configs {
			configs[name] = &value
		}
		_, err := client.CreateTopic(ctx, arguments.Partitions, arguments.Replicas, configs, topic)
		return answer, err
	case "delete":
		_, err := client.DeleteTopic(ctx, topic)
		return answer, err
	case "topics":
		found, err := client.ListTopics(ctx)
		answer["topics"] = found.Names()
		return answer, err
	case "describe":
		found, err := client.ListTopics(ctx, topic)
		if err == nil {
			err = found[topic].Err
		}
		replicas := [][]int32{}
		for _, partition := range found[topic].Partitions.Sorted() {
			replicas = append(replicas, partition.Replicas)
		}
		answer["replicas"] = replicas
		return answer, err
	case "grow":
		found, err := client.UpdatePartitions(ctx, int(arguments.Partitions), topic)
		if err == nil {
			err = found.Error()
		}
		return answer, err
	case "configs":
		found, err := client.DescribeTopicConfigs(ctx, topic)
		if err == nil {
			err = found[0].Err
		}
		if err != nil {
			return nil, err
		}
		for _, config := range found[0].Configs {
			answer[config.Key] = config.MaybeValue()
		}
		return answer, err
	case "alter":
		var changes []kadm.AlterConfig
		for name, value := range arguments.Configs {
			changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value})
		}
		found, err := client.AlterTopicConfigs(ctx, changes, topic)
		if err == nil {
			err = found[0].Err
		}
		return answer, err
	case "delete_records":
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: topic, Partition: partition, At: arguments.Offset})
		found, err := client.DeleteRecords(ctx, offsets)
		if err == nil {
			err = found.Error()
		}
		return answer, err
	case "offset":
		found, err := list(ctx, client, topic, arguments.Time)
		if err == nil {
			err = found.Error()
		}
		listed, _ := found.Lookup(topic, partition)
		answer["offset"] = listed.Offset
		return answer, err
	case "commit":
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: topic, Partition: partition, At: arguments.Offset, Metadata: "why not"})
		found, err := client.CommitOffsets(ctx, group, offsets)
		if err == nil {
			err = found.Error()
		}
		return answer, err
	case "committed":
		found, err := client.FetchOffsets(ctx, group)
		if err == nil {
			err = found.Error()
		}
		committed, is := found.Lookup(topic, partition)
		answer["offset"], answer["metadata"] = int64(-1), ""
		if is {
			answer["offset"], answer["metadata"] = committed.At, committed.Metadata
		}
		return answer, err
	case "groups":
		found, err := client.ListGroups(ctx)
		answer["groups"] = found.Groups()
		return answer, err
	case "describe_group":
		if arguments.Newest {
			found, err := client.DescribeConsumerGroups(ctx, group)
			if err == nil {
				err = found.Error()
			}
			answer["state"], answer["members"] = found[group].State, len(found[group].Members)
			return answer, err
		}
		found, err := client.DescribeGroups(ctx, group)
		if err == nil {
			err = found.Error()
		}
		answer["state"], answer["members"] = found[group].State, len(found[group].Members)
		return answer, err
	case "lag":
		if arguments.Newest {
			return lag(ctx, client, group, topic)
		}
		found, err := client.Lag(ctx, group)
		if err == nil {
			err = found.Error()
		}
		answer["lag"] = found[group].Lag.Total()
		return answer, err
	case "delete_group":
		_, err := client.DeleteGroup(ctx, group)
		return answer, err
	}
	return nil, fmt.Errorf("no request %s", arguments.What)
}

func list(ctx context.Context, client *kadm.Client, topic string, at int64) (kadm.ListedOffsets, error) {
	switch at {
	case -2:
		return client.ListStartOffsets(ctx, topic)
	case -1:
		return client.ListEndOffsets(ctx, topic)
	}
	return client.ListOffsetsAfterMilli(ctx, at, topic)
}

// lag of a group in the newer protocol: the client has it for the classic one only.
func lag(ctx context.Context, client *kadm.Client, group, topic string) (any, error) {
	committed, err := client.FetchOffsets(ctx, group)
	if err != nil {
		return nil, err
	}
	ends, err := client.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	behind := int64(0)
	ends.Each(func(end kadm.ListedOffset) {
		found, _ := committed.Lookup(topic, end.Partition)
		behind += end.Offset - found.At
	})
	return map[string]any{"lag": behind}, errors.Join(committed.Error(), ends.Error())
}
