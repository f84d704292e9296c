import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RetriableException;

/**
 * Reads partitions from their beginning, with positions of its own and auto.offset.reset=none, and commits what it has read twice
 * a second. Writes "read PARTITION OFFSET" for each record, "committed PARTITION OFFSET" for what is acknowledged, and "failed
 * WHY" if it cannot go on.
 *
 * <p>Arguments: --bootstrap-server, the brokers, the topic, its number of partitions, the group.
 */
public class Watcher {
    private static final long COMMIT_EVERY_MS = 500;

    public static void main(String[] args) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[1]);
        settings.put("group.id", args[4]);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "none");
        settings.put("metadata.max.age.ms", "1000");
        settings.put("request.timeout.ms", "10000");
        settings.put("default.api.timeout.ms", "10000");
        settings.put("key.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        settings.put("value.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        List<TopicPartition> partitions = IntStream.range(0, Integer.parseInt(args[3]))
            .mapToObj(number -> new TopicPartition(args[2], number)).collect(Collectors.toList());
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings)) {
            consumer.assign(partitions);
            partitions.forEach(partition -> consumer.seek(partition, 0));
            watch(consumer);
        } catch (KafkaException why) {
            tell("failed " + why);
        }
    }

    private static void watch(KafkaConsumer<byte[], byte[]> consumer) {
        Map<TopicPartition, OffsetAndMetadata> read = new HashMap<>();
        long committedAt = System.nanoTime();
        while (true) {
            consumer.poll(Duration.ofMillis(100)).forEach(record -> {
                tell("read " + record.partition() + " " + record.offset());
                TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                read.put(partition, new OffsetAndMetadata(record.offset() + 1, record.leaderEpoch(), ""));
            });
            if (!read.isEmpty() && System.nanoTime() - committedAt > COMMIT_EVERY_MS * 1_000_000) {
                committedAt = System.nanoTime();
                commit(consumer, read);
            }
        }
    }

    private static void commit(KafkaConsumer<byte[], byte[]> consumer, Map<TopicPartition, OffsetAndMetadata> read) {
        try {
            consumer.commitSync(read, Duration.ofSeconds(5));
        } catch (RetriableException away) {
            // The coordinator is away: said again with the next one.
            return;
        }
        read.forEach((partition, offset) -> tell("committed " + partition.partition() + " " + offset.offset()));
        read.clear();
    }

    private static void tell(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
