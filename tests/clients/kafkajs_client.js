// kafkajs, driven by tests/clients/kafkajs; what is asked and answered is told in driven.py.
"use strict";

const fs = require("node:fs");
const readline = require("node:readline");
const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, Partitioners } = require("kafkajs");

// It has gzip itself. Its plug-ins for lz4 and zstd have to be compiled, and zstd's no longer can be: these two codecs come
// from other packages, in the way that it has for any codec.
const zstd = require("@mongodb-js/zstd");
const lz4 = require("lz4js");
CompressionCodecs[CompressionTypes.Snappy] = require("kafkajs-snappy");
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
});
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: (encoder) => zstd.compress(encoder.buffer),
  decompress: (buffer) => zstd.decompress(buffer),
});
const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
};
const LEVELS = { 1: "ERROR", 2: "WARN", 4: "INFO", 5: "DEBUG" };
// It makes one batch of what it is given at once.
const BATCH_RECORDS_MAX = 100;
const BATCH_BYTES_MAX = 500_000;

const given = JSON.parse(process.argv[3]);
const kafka = new Kafka({
  brokers: given.bootstrap,
  logCreator: () => ({ namespace, level, log }) => {
    const { message, error = "" } = log;
    fs.writeSync(2, `${LEVELS[level]} ${namespace} ${message} ${error}\n`);
  },
});

const encoded = (bytes) => (bytes === null || bytes === undefined ? null : bytes.toString("base64"));
const decoded = (text) => (text === null ? null : Buffer.from(text, "base64"));
const tell = (answer) => fs.writeSync(1, JSON.stringify(answer) + "\n");

async function produce() {
  const { topic, partition, codec, idempotent } = given;
  const producer = kafka.producer({
    // Else it warns that this one is another than that of its first version.
    createPartitioner: Partitioners.DefaultPartitioner,
    ...(idempotent ? { idempotent, maxInFlightRequests: 1 } : {}),
  });
  await producer.connect();
  const offsets = [];
  const send = async (messages) => {
    const settings = { topic, messages, ...(codec ? { compression: CODECS[codec] } : {}) };
    const [{ baseOffset }] = await producer.send(settings);
    messages.forEach((_, number) => offsets.push(Number(baseOffset) + number));
  };
  let messages = [];
  let bytes = 0;
  for await (const line of readline.createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    if (messages.length === BATCH_RECORDS_MAX || bytes + line.length > BATCH_BYTES_MAX) {
      if (messages.length) await send(messages);
      messages = [];
      bytes = 0;
    }
    messages.push(message(JSON.parse(line), partition));
    bytes += line.length;
  }
  if (messages.length) await send(messages);
  await producer.disconnect();
  tell({ offsets });
}

function message(record, partition) {
  const headers = {};
  for (const { name, value } of record.headers) {
    headers[name] = name in headers ? [headers[name], decoded(value)].flat() : decoded(value);
  }
  const time = record.time ? { timestamp: String(record.time) } : {};
  return { partition, key: decoded(record.key), value: decoded(record.value), headers, ...time };
}

async function consume() {
  const { topic, partition, start, count, committed } = given;
  // It has no consumers without a group.
  const consumer = kafka.consumer({
    groupId: `reads-${topic}-${process.pid}`,
    readUncommitted: !committed,
    // It leaves only when the fetch that is under way is answered.
    maxWaitTimeInMs: 500,
    ...(given.partition_bytes ? { maxBytesPerPartition: given.partition_bytes } : {}),
    ...(given.fetch_bytes ? { maxBytes: given.fetch_bytes } : {}),
  });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  let found = 0;
  await new Promise((done) => {
    consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition: from, message }) => {
        // What comes before the seek counts, or does not, as what comes after it.
        if (from !== partition || found === count || Number(message.offset) !== start + found) return;
        const headers = Object.entries(message.headers).flatMap(([name, values]) =>
          [values].flat().map((value) => ({ name, value: encoded(value) })),
        );
        const { key, value, offset, timestamp } = message;
        tell({ offset: Number(offset), key: encoded(key), value: encoded(value), headers, time: Number(timestamp) });
        found += 1;
        if (found === count) done();
      },
    });
    consumer.seek({ topic, partition, offset: String(start) });
  });
  await consumer.disconnect();
}

async function member() {
  const { topic, group, session_ms: sessionTimeout, heartbeat_ms: heartbeatInterval } = given;
  // Its heartbeats wait for the fetches that are under way: those are to be much shorter than the session.
  const consumer = kafka.consumer({ groupId: group, sessionTimeout, heartbeatInterval, maxWaitTimeInMs: 500 });
  process.once("SIGTERM", () => consumer.disconnect().then(() => process.exit(0)));
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({ eachMessage: async ({ message }) => fs.writeSync(1, `${message.value}\n`) });
}

async function admin() {
  const admin = kafka.admin();
  await admin.connect();
  try {
    tell((await REQUESTS[given.what](admin, given)) ?? {});
  } finally {
    await admin.disconnect();
  }
}

const resource = (topic) => ({ type: ConfigResourceTypes.TOPIC, name: topic });
const entries = (configs = {}) => Object.entries(configs).map(([name, value]) => ({ name, value }));
const REQUESTS = {
  brokers: async (admin) => {
    const { brokers, controller } = await admin.describeCluster();
    return { brokers: brokers.map(({ nodeId }) => nodeId), controller };
  },
  create: async (admin, { topic, partitions: numPartitions, replicas: replicationFactor, configs }) => {
    const made = { topic, numPartitions, replicationFactor, configEntries: entries(configs) };
    // Of all refusals, this one it does not throw.
    if (!(await admin.createTopics({ topics: [made] }))) return { error: "TOPIC_ALREADY_EXISTS" };
  },
  delete: (admin, { topic }) => admin.deleteTopics({ topics: [topic] }),
  topics: async (admin) => ({ topics: await admin.listTopics() }),
  describe: async (admin, { topic }) => {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    return { replicas: topics[0].partitions.map(({ replicas }) => replicas) };
  },
  grow: async (admin, { topic, partitions: count }) => {
    await admin.createPartitions({ topicPartitions: [{ topic, count }] });
  },
  configs: async (admin, { topic }) => {
    const { resources } = await admin.describeConfigs({ resources: [resource(topic)], includeSynonyms: false });
    return Object.fromEntries(resources[0].configEntries.map(({ configName, configValue }) => [configName, configValue]));
  },
  alter: async (admin, { topic, configs }) => {
    await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource(topic), configEntries: entries(configs) }] });
  },
  delete_records: async (admin, { topic, partition, offset }) => {
    // It finds leaders only of topics that it was asked about before.
    await admin.fetchTopicOffsets(topic);
    await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(offset) }] });
  },
  offset: async (admin, { topic, partition, time }) => {
    const offsets = time < 0 ? await admin.fetchTopicOffsets(topic) : await admin.fetchTopicOffsetsByTimestamp(topic, time);
    const found = offsets.find((each) => each.partition === partition);
    return { offset: Number(time === -2 ? found.low : found.offset) };
  },
  commit: async (admin, { topic, group, partition, offset }) => {
    await admin.setOffsets({ groupId: group, topic, partitions: [{ partition, offset: String(offset) }] });
  },
  committed: async (admin, { topic, group, partition }) => {
    const found = (await committed(admin, topic, group)).find((each) => each.partition === partition);
    return { offset: Number(found.offset), metadata: found.metadata };
  },
  groups: async (admin) => ({ groups: (await admin.listGroups()).groups.map(({ groupId }) => groupId) }),
  describe_group: async (admin, { group }) => {
    const { groups } = await admin.describeGroups([group]);
    return { state: groups[0].state, members: groups[0].members.length };
  },
  lag: async (admin, { topic, group }) => {
    const ends = await admin.fetchTopicOffsets(topic);
    const lags = (await committed(admin, topic, group)).map(
      ({ partition, offset }) => Number(ends.find((end) => end.partition === partition).offset) - Number(offset),
    );
    return { lag: lags.reduce((sum, lag) => sum + lag, 0) };
  },
  delete_group: async (admin, { group }) => {
    await admin.deleteGroups([group]);
  },
};

async function committed(admin, topic, group) {
  const [found] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
  return found.partitions;
}

// The broker's name of what is wrong, wherever an error has it.
function why(error) {
  const causes = [error.cause, error.error, ...(error.errors ?? []), ...(error.partitions ?? []), ...(error.groups ?? [])];
  return error.type ?? causes.filter(Boolean).map(why).find(Boolean);
}

const COMMANDS = { produce, consume, member, admin };
COMMANDS[process.argv[2]]().catch((error) => {
  const refused = why(error);
  if (refused === undefined) throw error;
  tell({ error: refused });
  process.exit(0);
});
