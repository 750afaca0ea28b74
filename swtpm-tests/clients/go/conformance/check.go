package main

import (
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"

	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// named is a case and its name: a sentence about the server.
type named struct {
	name string
	run  func(*server)
}

// failure ends a case.
type failure string

// outcome is what is wrong, or nothing.
func (n named) outcome(s *server) (outcome string) {
	defer func() {
		switch ended := recover().(type) {
		case nil:
		case failure:
			outcome = string(ended)
		default:
			panic(ended)
		}
	}()
	n.run(s)
	return ""
}

// failf ends the case, and says which of its lines did.
func failf(format string, args ...any) {
	var where []string
	for depth := 1; depth < 8; depth++ {
		_, file, line, known := runtime.Caller(depth)
		if file = filepath.Base(file); known && file != "check.go" && file != "main.go" && !strings.HasSuffix(file, ".s") {
			where = append(where, fmt.Sprintf("%s:%d", file, line))
		}
	}
	panic(failure(strings.Join(where, " < ") + ": " + fmt.Sprintf(format, args...)))
}

// must fails unless err is nil.
func must(err error) {
	if err != nil {
		failf("%v", err)
	}
}

// the is what a call gave, which must not have failed.
func the[T any](got T, err error) T {
	must(err)
	return got
}

// equal fails unless got is what is wanted.
func equal(what string, got, want any) {
	if !reflect.DeepEqual(got, want) {
		failf("%s: got %v, want %v", what, got, want)
	}
}

// same fails unless two messages are equal.
func same(what string, got, want proto.Message) {
	if !proto.Equal(got, want) {
		failf("%s: got %v, want %v", what, got, want)
	}
}

// refused fails unless a call was refused with a code, and words that contain all parts.
func refused(err error, code codes.Code, parts ...string) {
	check(status.Code(err), status.Convert(err).Message(), code, parts)
}

// item fails unless one of a batch has a code, and words that contain all parts.
func item(got *types.Status, code codes.Code, parts ...string) {
	if got == nil {
		failf("an item without a status")
	}
	check(codes.Code(got.Code), got.Message, code, parts)
}

func check(got codes.Code, message string, want codes.Code, parts []string) {
	if got != want {
		failf("got %v %q, want %v", got, message, want)
	}
	for _, part := range parts {
		if !strings.Contains(message, part) {
			failf("%q does not say %q", message, part)
		}
	}
}

// denied fails unless a call was denied for a reason that an agent acts on.
func denied(err error, reason types.PermissionDeniedDetails_Reason) {
	refused(err, codes.PermissionDenied)
	details := status.Convert(err).Details()
	if len(details) != 1 {
		failf("%v: got details %v, want one", err, details)
	}
	same("details", details[0].(proto.Message), &types.PermissionDeniedDetails{Reason: reason})
}
