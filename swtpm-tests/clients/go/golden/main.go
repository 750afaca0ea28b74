// Command golden prints one filled instance of each message of SPIRE's server APIs, as JSON and as the bytes that the
// SDK's types make of that JSON: what our own types have to make of it. A message with a oneof comes once for each of
// its members.
//
// Regenerate the file that `cargo test -p proto` compares with after an update of the SDK, from swtpm-tests/clients/go:
//
//	go run ./golden > ../../../proto/testdata/golden.jsonl
package main

import (
	"encoding/hex"
	"encoding/json"
	"log"
	"os"
	"slices"
	"strings"

	// Registered, so that their messages are known.
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/debug/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/localauthority/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/logger/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/trustdomain/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// line is one message.
type line struct {
	Message string          `json:"message"`
	JSON    json.RawMessage `json:"json"`
	Wire    string          `json:"wire"`
}

func main() {
	encoder := json.NewEncoder(os.Stdout)
	for _, kind := range kinds() {
		for variant := range variants(kind.Descriptor()) {
			said, err := protojson.Marshal(filled(kind.Descriptor(), variant).Interface())
			must(err)
			// From the JSON again, so that both sides begin with the same.
			message := kind.New().Interface()
			must(protojson.Unmarshal(said, message))
			wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
			must(err)
			must(encoder.Encode(line{string(kind.Descriptor().FullName()), said, hex.EncodeToString(wire)}))
		}
	}
}

// kinds are the messages of the server's APIs, by name.
func kinds() []protoreflect.MessageType {
	var found []protoreflect.MessageType
	protoregistry.GlobalTypes.RangeMessages(func(kind protoreflect.MessageType) bool {
		file := string(kind.Descriptor().ParentFile().Package())
		if strings.HasPrefix(file, "spire.api.server.") || file == "spire.api.types" {
			found = append(found, kind)
		}
		return true
	})
	slices.SortFunc(found, func(a, b protoreflect.MessageType) int {
		return strings.Compare(string(a.Descriptor().FullName()), string(b.Descriptor().FullName()))
	})
	return found
}

// variants is how many instances it takes to show each member of each oneof.
func variants(message protoreflect.MessageDescriptor) int {
	most := 1
	for i := range message.Oneofs().Len() {
		most = max(most, message.Oneofs().Get(i).Fields().Len())
	}
	return most
}

// filled has something in every field; of a oneof, in the member with the number of the variant.
func filled(kind protoreflect.MessageDescriptor, variant int) protoreflect.Message {
	registered, err := protoregistry.GlobalTypes.FindMessageByName(kind.FullName())
	must(err)
	message := registered.New()
	for i := range kind.Fields().Len() {
		field := kind.Fields().Get(i)
		if oneof := field.ContainingOneof(); oneof != nil && oneof.Fields().Get(variant%oneof.Fields().Len()) != field {
			continue
		}
		if !field.IsList() {
			message.Set(field, value(field, 0))
			continue
		}
		list := message.Mutable(field).List()
		list.Append(value(field, 0))
		list.Append(value(field, 1))
	}
	return message
}

// value is something that no other field has, as far as its type allows.
func value(field protoreflect.FieldDescriptor, index int) protoreflect.Value {
	number := int64(field.Number())*16 + int64(index) + 1
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{0, byte(number), 0xff})
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(values.Len() - 1).Number())
	case protoreflect.Int32Kind:
		// Negative: zigzag or fixed widths would show.
		return protoreflect.ValueOfInt32(int32(-number))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(-number << 32)
	case protoreflect.MessageKind:
		return protoreflect.ValueOfMessage(filled(field.Message(), index))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(string(field.Name()) + strings.Repeat("é", index))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(1<<63 | uint64(number))
	default:
		log.Fatalf("%s is of a kind that no message had before", field.FullName())
		return protoreflect.Value{}
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
