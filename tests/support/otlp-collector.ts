/** A collector of OpenTelemetry traces on a port of its own, which reads OTLP's protobuf as `opentelemetry-proto` defines it. */

export interface ReceivedSpan {
  readonly name: string;
  /** 2 = a server's. */
  readonly kind: number;
  /** In hexadecimal digits. */
  readonly traceId: string;
  /** Empty = it is a root. */
  readonly parentSpanId: string;
  readonly traceState: string;
  /** Milliseconds since the epoch. */
  readonly start: number;
  readonly end: number;
  readonly attributes: Readonly<Record<string, unknown>>;
  /** 0 = not set, 2 = an error. */
  readonly status: number;
  /** Of the process that sent it. */
  readonly resource: Readonly<Record<string, unknown>>;
}

export class OtlpCollector {
  readonly url: string;
  readonly spans: ReceivedSpan[] = [];
  /** What came, as it came: for what must not be in it. */
  bytes = "";
  /** Headers of the messages. */
  readonly headers: Headers[] = [];
  readonly #server: Bun.Server<undefined>;

  /** `answer`: default: every message is taken. */
  constructor(answer: () => Response | Promise<Response> = () => new Response()) {
    this.#server = Bun.serve({
      port: 0,
      fetch: async (request) => {
        const bytes = await request.bytes();
        this.bytes += Buffer.from(bytes).toString("latin1");
        this.headers.push(request.headers);
        this.spans.push(...spansOf(bytes));
        return answer();
      },
    });
    this.url = `http://127.0.0.1:${this.#server.port}/v1/traces`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop(true);
  }
}

/** Field number → its values in order: bytes, or integers of 64 bits. */
type Message = Map<number, (Uint8Array | bigint)[]>;

function spansOf(request: Uint8Array): ReceivedSpan[] {
  return partsOf(read(request), 1).flatMap((resourceSpans) => {
    const resource = attributesOf(partsOf(resourceSpans, 1)[0] ?? new Map(), 1);
    return partsOf(resourceSpans, 2)
      .flatMap((scopeSpans) => partsOf(scopeSpans, 2))
      .map((span) => spanOf(span, resource));
  });
}

function spanOf(span: Message, resource: ReceivedSpan["resource"]): ReceivedSpan {
  const hex = (field: number): string => Buffer.from(bytesOf(span, field)).toString("hex");
  return {
    name: textOf(span, 5),
    kind: Number(integerOf(span, 6)),
    traceId: hex(1),
    parentSpanId: hex(4),
    traceState: textOf(span, 3),
    start: Number(integerOf(span, 7)) / 1e6,
    end: Number(integerOf(span, 8)) / 1e6,
    attributes: attributesOf(span, 9),
    status: Number(integerOf(partsOf(span, 15)[0] ?? new Map(), 3)),
    resource,
  };
}

function attributesOf(message: Message, field: number): Record<string, unknown> {
  return Object.fromEntries(
    partsOf(message, field).map((one) => [textOf(one, 1), valueOf(partsOf(one, 2)[0])]),
  );
}

/** Of an `AnyValue`: text, boolean, integer or number. */
function valueOf(value: Message | undefined): unknown {
  if (value?.has(1)) return textOf(value, 1);
  if (value?.has(2)) return integerOf(value, 2) === 1n;
  if (value?.has(3)) return Number(integerOf(value, 3));
  if (value?.has(4)) return new Float64Array(BigUint64Array.of(integerOf(value, 4)).buffer)[0];
  return undefined;
}

function partsOf(message: Message, field: number): Message[] {
  return (message.get(field) ?? []).map((value) => read(value as Uint8Array));
}

function bytesOf(message: Message, field: number): Uint8Array {
  return (message.get(field)?.[0] as Uint8Array | undefined) ?? new Uint8Array();
}

function textOf(message: Message, field: number): string {
  return new TextDecoder().decode(bytesOf(message, field));
}

function integerOf(message: Message, field: number): bigint {
  return (message.get(field)?.[0] as bigint | undefined) ?? 0n;
}

function read(bytes: Uint8Array): Message {
  const message: Message = new Map();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw new Error("a message of protobuf was cut off");
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const fixed = (length: number): bigint => {
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[at + i] as number);
    at += length;
    return value;
  };
  const block = (): Uint8Array => {
    const length = Number(varint());
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const kinds: Readonly<Record<number, () => Uint8Array | bigint>> = {
      0: varint,
      1: () => fixed(8),
      2: block,
      5: () => fixed(4),
    };
    const value = kinds[key & 7]?.();
    if (value === undefined) throw new Error(`there is no wire type ${key & 7}`);
    message.set(key >> 3, [...(message.get(key >> 3) ?? []), value]);
  }
  return message;
}
