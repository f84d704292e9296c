import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;

/**
 * A consumer in a group: writes each value on a line, and what it is assigned with the time in milliseconds.
 *
 * <p>Arguments: --bootstrap-server, the brokers, the topic, and the consumer's settings as name=value. SIGTERM makes it leave.
 */
public class Member {
    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[1]);
        settings.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        settings.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        for (String setting : List.of(args).subList(3, args.length)) {
            int at = setting.indexOf('=');
            settings.put(setting.substring(0, at), setting.substring(at + 1));
        }
        KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings);
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            consumer.wakeup();
            try {
                main.join();
            } catch (InterruptedException ended) {
                main.interrupt();
            }
        }));
        consumer.subscribe(List.of(args[2]), new Told());
        try {
            while (true) {
                consumer.poll(Duration.ofMillis(100)).forEach(record -> tell(record.value()));
            }
        } catch (WakeupException ending) {
            consumer.close();
        }
    }

    /** Writes what the group tells. */
    private static final class Told implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            told("assigned", partitions);
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            told("revoked", partitions);
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            told("lost", partitions);
        }
    }

    private static void told(String what, Collection<TopicPartition> partitions) {
        TreeSet<Integer> numbers = partitions.stream().map(TopicPartition::partition)
            .collect(Collectors.toCollection(TreeSet::new));
        String all = numbers.stream().map(number -> " " + number).collect(Collectors.joining());
        tell("@" + System.currentTimeMillis() + " " + what + all);
    }

    private static void tell(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
