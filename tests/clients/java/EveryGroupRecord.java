/** Kafka's own formatter of what is in __consumer_offsets, for records of every type that Kafka knows. */
public class EveryGroupRecord extends org.apache.kafka.tools.consumer.GroupMetadataMessageFormatter {
    @Override
    protected boolean isRecordTypeAllowed(short type) {
        return true;
    }
}
