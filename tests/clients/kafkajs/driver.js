// Driver for kafkajs; protocol in ../README.md.
'use strict'

const path = require('path')
const readline = require('readline')

const modules = path.join(process.env.PYRALOG_DEPS || path.join(__dirname, '../../../.deps'),
  'npm/node_modules')
const load = (name) => require(path.join(modules, name))

const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = load('kafkajs')
const snappy = load('snappyjs')
const lz4 = load('lz4js')
const zstd = load('@bokuweb/zstd-wasm')

const XERIAL = Buffer.from([130, 83, 78, 65, 80, 80, 89, 0])

/** Kafka's snappy comes raw or in the block framing of snappy-java. */
function unsnappy (buffer) {
  if (!buffer.subarray(0, 8).equals(XERIAL)) return Buffer.from(snappy.uncompress(buffer))
  const blocks = []
  for (let at = 16; at < buffer.length;) {
    const size = buffer.readUInt32BE(at)
    blocks.push(Buffer.from(snappy.uncompress(buffer.subarray(at + 4, at + 4 + size))))
    at += 4 + size
  }
  return Buffer.concat(blocks)
}

/** lz4js leaves the flag of independent blocks out, which Kafka insists on. Its header is constant,
 * so the flag and the header's checksum are set here; one block holds 4 MiB. */
function lz4Frame (buffer) {
  const frame = lz4.compress(buffer)
  if (buffer.length > 4194304) throw new Error('one block of LZ4 holds 4 MiB')
  frame[4] = 0x60
  frame[6] = 0x73
  return frame
}

const codec = (compress, decompress) => () => ({
  compress: async (encoder) => Buffer.from(compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(decompress(buffer))
})
CompressionCodecs[CompressionTypes.Snappy] = codec((b) => snappy.compress(b), unsnappy)
CompressionCodecs[CompressionTypes.LZ4] = codec(lz4Frame, (b) => lz4.decompress(b))
CompressionCodecs[CompressionTypes.ZSTD] = codec((b) => zstd.compress(b, 3),
  (b) => zstd.decompress(b))

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD
}

const emit = (line) => process.stdout.write(JSON.stringify(line) + '\n')
const text = (buffer) => (buffer === null || buffer === undefined ? null : buffer.toString())
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** Digs the broker's answer out of kafkajs' wrappers. */
function failure (error) {
  let inner = error
  while (inner) {
    if (typeof inner.code === 'number' && inner.type) break
    inner = (inner.errors && inner.errors[0]) || inner.cause || inner.originalError
  }
  if (!inner && error.groups) inner = error.groups[0].error
  const found = inner || error
  return {
    code: typeof found.code === 'number' ? found.code : null,
    name: found.type || found.name,
    message: String(found.message)
  }
}

const bootstrap = process.argv[2]
const connectTo = (brokers) => new Kafka({
  clientId: 'scenario',
  brokers: brokers.split(','),
  logLevel: logLevel.NOTHING,
  requestTimeout: 20000,
  retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 20 }
})
const kafka = connectTo(bootstrap)
const quick = new Kafka({
  clientId: 'scenario',
  brokers: bootstrap.split(','),
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 3 }
})

let adminClient = null
async function admin () {
  if (adminClient === null) {
    adminClient = quick.admin()
    await adminClient.connect()
  }
  return adminClient
}

let member = null
let commitEach = false
let serial = 0

const ops = {}

ops.hello = async () => ({ client: 'kafkajs ' + load('kafkajs/package.json').version })

ops.create_topic = async (request) => {
  await (await admin()).createTopics({
    waitForLeaders: true,
    topics: [{
      topic: request.topic,
      numPartitions: request.partitions || 1,
      replicationFactor: request.replication_factor || 1,
      configEntries: Object.entries(request.configs || {}).map(([name, value]) => ({ name, value }))
    }]
  }).then((created) => {
    if (!created) throw Object.assign(new Error('topic exists'), { type: 'TOPIC_ALREADY_EXISTS', code: 36 })
  })
}

ops.delete_topic = async (request) => {
  await (await admin()).deleteTopics({ topics: [request.topic] })
}

ops.create_partitions = async (request) => {
  await (await admin()).createPartitions({
    topicPartitions: [{ topic: request.topic, count: request.total }]
  })
}

ops.list_topics = async () => {
  const { topics } = await (await admin()).fetchTopicMetadata()
  return { topics: Object.fromEntries(topics.map((t) => [t.name, t.partitions.length])) }
}

ops.describe_configs = async (request) => {
  const found = await (await admin()).describeConfigs({
    resources: [{ type: 2, name: request.topic }], includeSynonyms: false
  })
  return {
    configs: Object.fromEntries(found.resources[0].configEntries
      .map((entry) => [entry.configName, entry.configValue]))
  }
}

ops.alter_configs = async (request) => {
  await (await admin()).alterConfigs({
    validateOnly: false,
    resources: [{
      type: 2,
      name: request.topic,
      configEntries: Object.entries(request.configs).map(([name, value]) => ({ name, value }))
    }]
  })
}

ops.produce = async (request) => {
  const client = request.bootstrap ? connectTo(request.bootstrap) : kafka
  const producer = client.producer({
    idempotent: Boolean(request.idempotent),
    maxInFlightRequests: request.idempotent ? 1 : 5,
    allowAutoTopicCreation: true
  })
  const acks = { all: -1, 1: 1, 0: 0 }[request.acks || 'all']
  await producer.connect()
  try {
    const offsets = request.records.map(() => -1)
    const step = request.batch || 10000
    for (let from = 0; from < request.records.length; from += step) {
      const part = request.records.slice(from, from + step)
      const told = await producer.send({
        topic: request.topic,
        acks,
        compression: CODECS[request.codec || 'none'],
        messages: part.map((record) => {
          const message = { key: record.key === undefined ? null : record.key, value: record.value === undefined ? null : record.value }
          if (record.partition !== undefined && record.partition !== null) message.partition = record.partition
          if (record.timestamp) message.timestamp = String(record.timestamp)
          if (record.headers) {
            message.headers = {}
            for (const [name, value] of record.headers) {
              const held = message.headers[name]
              message.headers[name] = held === undefined ? value : [].concat(held, value)
            }
          }
          return message
        })
      })
      const next = Object.fromEntries((told || []).map((t) => [t.partition, Number(t.baseOffset)]))
      part.forEach((record, index) => {
        const partition = record.partition || 0
        if (next[partition] !== undefined) offsets[from + index] = next[partition]++
      })
    }
    return { offsets }
  } finally {
    await producer.disconnect()
  }
}

ops.fetch = async (request) => {
  const known = await (await admin()).fetchTopicOffsets(request.topic)
  const marks = known.find((found) => found.partition === request.partition)
  const from = { earliest: marks.low, latest: marks.high }[request.from] || String(request.from)
  const group = `kafkajs-fetch-${process.pid}-${serial++}`
  const consumer = kafka.consumer({
    groupId: group,
    readUncommitted: request.isolation === 'read_uncommitted',
    maxWaitTimeInMs: 100,
    maxBytesPerPartition: 4000000
  })
  const records = []
  await consumer.connect()
  try {
    await consumer.subscribe({ topics: [request.topic], fromBeginning: true })
    let full
    const done = new Promise((resolve) => { full = resolve })
    const others = known.filter((found) => found.partition !== request.partition)
    const { topic, partition } = request
    let next = BigInt(from)
    let positioned = false
    // A consumer that has lost its coordinator joins anew by itself, from the beginning of the topic.
    consumer.on(consumer.events.GROUP_JOIN, () => {
      if (others.length) consumer.pause([{ topic, partitions: others.map((o) => o.partition) }])
      consumer.seek({ topic, partition, offset: String(next) })
      positioned = true
    })
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      eachBatch: async ({ batch }) => {
        if (batch.partition !== partition || !positioned) return
        for (const message of batch.messages) {
          if (records.length >= request.count) break
          if (BigInt(message.offset) < next) continue
          records.push(toRecord(message))
          next = BigInt(message.offset) + 1n
        }
        if (records.length >= request.count) full()
        else {
          const end = BigInt(batch.lastOffset()) + 1n
          if (end > next) next = end
          consumer.seek({ topic, partition, offset: String(next) })
        }
      }
    })
    await Promise.race([done, sleep(request.timeout_ms || 10000)])
  } finally {
    await consumer.disconnect()
    await (await admin()).deleteGroups([group]).catch(() => {})
  }
  return { records: records.slice(0, request.count) }
}

function toRecord (message) {
  const headers = []
  for (const [name, value] of Object.entries(message.headers || {})) {
    for (const one of [].concat(value)) headers.push([name, text(one)])
  }
  return {
    offset: Number(message.offset),
    timestamp: Number(message.timestamp),
    key: text(message.key),
    value: text(message.value),
    headers
  }
}

ops.offset_for_time = async (request) => {
  const found = await (await admin()).fetchTopicOffsetsByTimestamp(request.topic, request.timestamp)
  return { offset: Number(found.find((f) => f.partition === request.partition).offset) }
}

ops.watermarks = async (request) => {
  const found = (await (await admin()).fetchTopicOffsets(request.topic))
    .find((f) => f.partition === request.partition)
  return { low: Number(found.low), high: Number(found.high) }
}

ops.commit = async (request) => {
  await (await admin()).setOffsets({
    groupId: request.group,
    topic: request.topic,
    partitions: Object.entries(request.offsets)
      .map(([partition, offset]) => ({ partition: Number(partition), offset: String(offset) }))
  })
}

ops.committed = async (request) => {
  const found = await (await admin()).fetchOffsets({ groupId: request.group, topics: [request.topic] })
  const offsets = Object.fromEntries(found[0].partitions.map((p) => [p.partition, Number(p.offset)]))
  return { offsets: Object.fromEntries(request.partitions.map((p) => [p, p in offsets ? offsets[p] : -1])) }
}

ops.list_groups = async () => ({
  groups: (await (await admin()).listGroups()).groups.map((group) => group.groupId)
})

ops.describe_group = async (request) => {
  const group = (await (await admin()).describeGroups([request.group])).groups[0]
  return { state: group.state.toUpperCase(), members: group.members.length }
}

ops.delete_group = async (request) => {
  await (await admin()).deleteGroups([request.group])
}

ops.join = async (request) => {
  commitEach = request.commit === 'each'
  member = kafka.consumer({
    groupId: request.group,
    sessionTimeout: request.session_timeout_ms,
    rebalanceTimeout: request.session_timeout_ms,
    heartbeatInterval: 500,
    metadataMaxAge: 1000,
    maxWaitTimeInMs: 100
  })
  const consumer = member
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    const partitions = []
    for (const [topic, owned] of Object.entries(payload.memberAssignment)) {
      for (const partition of owned) partitions.push([topic, partition])
    }
    emit({ event: 'assigned', partitions })
  })
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    emit({ event: 'error', ...failure(payload.error) })
  })
  await consumer.connect()
  await consumer.subscribe({
    topics: request.pattern ? [new RegExp(request.pattern)] : request.topics,
    fromBeginning: request.reset === 'earliest'
  })
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch, resolveOffset, heartbeat, isRunning, isStale }) => {
      for (const message of batch.messages) {
        if (!isRunning() || isStale()) return
        emit({ event: 'record', topic: batch.topic, partition: batch.partition, offset: Number(message.offset), value: text(message.value) })
        resolveOffset(message.offset)
        positions.set(batch.topic + '/' + batch.partition, Number(message.offset) + 1)
      }
      if (commitEach) await commitPositions([[batch.topic, batch.partition]])
      await heartbeat()
    }
  })
}

const positions = new Map()

async function commitPositions (only) {
  const wanted = only || [...positions.keys()].map((name) => {
    const at = name.lastIndexOf('/')
    return [name.slice(0, at), Number(name.slice(at + 1))]
  })
  await member.commitOffsets(wanted.map(([topic, partition]) => ({
    topic, partition, offset: String(positions.get(topic + '/' + partition))
  })))
}

ops.commit_now = async () => { await commitPositions() }
ops.pause = async (request) => {
  member.pause([{ topic: request.topic, partitions: [request.partition] }])
}
ops.resume = async (request) => {
  member.resume([{ topic: request.topic, partitions: [request.partition] }])
}
ops.leave = async () => {
  if (member) await member.disconnect()
  member = null
}

async function serve () {
  await zstd.init()
  process.on('unhandledRejection', (error) => emit({ event: 'error', ...failure(error) }))
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line)
    try {
      emit({ id: request.id, ok: true, ...(await ops[request.op](request)) })
    } catch (error) {
      emit({ id: request.id, ok: false, ...failure(error) })
    }
  }
  process.exit(0)
}

serve()
