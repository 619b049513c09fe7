import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.CompactArrayOf;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;

/**
 * What the Java client knows of each message and version that is listed in the file given (lines
 * NAME VERSION …): its field table and the bytes of messages filled at random from a fixed seed.
 * Prints "table NAME VERSION TABLE", "bytes NAME VERSION HEX" or "absent NAME VERSION".
 */
public final class WireDump {
  private static final int ROUNDS = 12;
  private static final String[] PACKAGES = {
    "org.apache.kafka.common.message.", "org.apache.kafka.coordinator.group.generated.",
  };

  private final Random random;
  private final boolean empty;

  private WireDump(long seed, boolean empty) {
    this.random = new Random(seed);
    this.empty = empty;
  }

  public static void main(String[] args) throws Exception {
    try (PrintStream out = new PrintStream(args[1], StandardCharsets.UTF_8)) {
      for (String line : Files.readAllLines(Path.of(args[0]))) {
        String[] words = line.split(" ", 3);
        dump(words[0], Short.parseShort(words[1]), out);
      }
    }
  }

  private static Class<?> find(String name) {
    for (String prefix : PACKAGES) {
      for (String suffix : new String[] {"Data", ""}) {
        try {
          return Class.forName(prefix + name + suffix);
        } catch (ClassNotFoundException e) {
          // the next place, then
        }
      }
    }
    return null;
  }

  private static void dump(String name, short version, PrintStream out) throws Exception {
    Class<?> type = find(name);
    Schema[] schemas = type == null ? new Schema[0] : (Schema[]) type.getField("SCHEMAS").get(null);
    // The client numbers keys of __consumer_offsets by kind and has one schema for each.
    short own = type != null && name.endsWith("Key") ? 0 : version;
    if (own >= schemas.length || schemas[own] == null) {
      out.println("absent " + name + " " + version);
      return;
    }
    out.println("table " + name + " " + version + " " + table(schemas[own]));
    for (int round = 0; round < ROUNDS; round++) {
      WireDump dump = new WireDump(name.hashCode() * 31L + version * 100L + round, round == 0);
      Struct struct = dump.fill(schemas[own]);
      ByteBuffer buffer = ByteBuffer.allocate(struct.sizeOf());
      struct.writeTo(buffer);
      buffer.flip();
      Message message = (Message) type.getDeclaredConstructor().newInstance();
      message.read(new ByteBufferAccessor(buffer), own);
      ByteBuffer written = MessageUtil.toByteBufferAccessor(message, own).buffer();
      byte[] bytes = new byte[written.remaining()];
      written.get(bytes);
      out.println("bytes " + name + " " + version + " " + HexFormat.of().formatHex(bytes));
    }
  }

  private static String table(Schema schema) {
    List<String> parts = new ArrayList<>();
    for (BoundField field : schema.fields()) {
      if (!(field.def.type instanceof TaggedFields tagged)) {
        parts.add(field.def.name + ":" + describe(field.def.type));
        continue;
      }
      List<String> tags = new ArrayList<>();
      tagged.fields().forEach((tag, f) -> tags.add(tag + "=" + f.name + ":" + describe(f.type)));
      parts.add("tags(" + String.join(" ", tags) + ")");
    }
    return "{" + String.join(" ", parts) + "}";
  }

  private static String describe(Type type) {
    String none = type.isNullable() ? "?" : "";
    if (type instanceof Schema schema) return table(schema);
    if (type.isArray()) {
      String compact = type instanceof CompactArrayOf ? "c" : "";
      return compact + none + "[" + describe(type.arrayElementType().get()) + "]";
    }
    String name = type.toString();
    String compact = name.startsWith("COMPACT_") ? "c" : "";
    String base = name.replace("COMPACT_", "").replace("NULLABLE_", "").replace("BOOLEAN", "BOOL");
    return compact + base.toLowerCase() + none;
  }

  private Struct fill(Schema schema) {
    Struct struct = new Struct(schema);
    for (BoundField field : schema.fields()) struct.set(field, value(field.def.type));
    return struct;
  }

  private Object value(Type type) {
    if (type instanceof Schema schema) return fill(schema);
    if (type instanceof TaggedFields tagged) {
      Map<Integer, Object> values = new TreeMap<>();
      tagged.fields().forEach((tag, field) -> {
        if (!empty && random.nextInt(3) != 0) values.put(tag, value(field.type));
      });
      return values;
    }
    if (type.isNullable() && (empty || random.nextInt(4) == 0)) return null;
    if (type.isArray()) {
      Object[] list = new Object[empty ? 0 : random.nextInt(4)];
      for (int i = 0; i < list.length; i++) list[i] = value(type.arrayElementType().get());
      return list;
    }
    String name = type.toString();
    return switch (name.replace("COMPACT_", "").replace("NULLABLE_", "")) {
      case "BOOLEAN" -> random.nextBoolean();
      case "INT8" -> (byte) number();
      case "INT16" -> (short) number();
      case "INT32" -> (int) number();
      case "INT64" -> number();
      case "UUID" -> new Uuid(number(), number());
      case "STRING" -> text();
      case "BYTES" -> ByteBuffer.wrap(raw());
      case "RECORDS" -> records();
      default -> throw new IllegalStateException("no value for type " + name);
    };
  }

  private long number() {
    if (empty) return 0;
    return random.nextInt(4) == 0 ? -random.nextInt(3) : random.nextLong() >> random.nextInt(64);
  }

  private String text() {
    String letters = "abcdefgh.-_é漢";
    StringBuilder text = new StringBuilder();
    int length = empty ? 0 : random.nextInt(random.nextInt(8) == 0 ? 200 : 12);
    for (int i = 0; i < length; i++) text.append(letters.charAt(random.nextInt(letters.length())));
    return text.toString();
  }

  private Object records() {
    byte[] bytes = raw();
    ByteBuffer sized = ByteBuffer.allocate(4 + bytes.length).putInt(bytes.length).put(bytes);
    return Type.RECORDS.read(sized.flip());
  }

  private byte[] raw() {
    byte[] bytes = new byte[empty ? 0 : random.nextInt(random.nextInt(8) == 0 ? 300 : 20)];
    random.nextBytes(bytes);
    return bytes;
  }
}
