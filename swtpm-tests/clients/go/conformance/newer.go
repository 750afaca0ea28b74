package main

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Fields that are newer than the SDK: to it they are unknown, and kept.
const (
	agentVersion         = 8  // of Agent: string
	additionalAttributes = 16 // of Entry: a message of two booleans
	postedVersion        = 2  // of PostStatusRequest: string
)

// with adds a field of bytes to a message.
func with[M proto.Message](message M, number protowire.Number, value string) M {
	field := protowire.AppendTag(nil, number, protowire.BytesType)
	message.ProtoReflect().SetUnknown(protowire.AppendString(field, value))
	return message
}

// newer is the value of a message's only field that is newer than the SDK.
func newer(message proto.Message, number protowire.Number) string {
	unknown := message.ProtoReflect().GetUnknown()
	if len(unknown) == 0 {
		return ""
	}
	got, kind, length := protowire.ConsumeTag(unknown)
	must(protowire.ParseError(length))
	equal("number of a newer field", got, number)
	equal("kind of a newer field", kind, protowire.BytesType)
	value, rest := protowire.ConsumeString(unknown[length:])
	must(protowire.ParseError(rest))
	return value
}
