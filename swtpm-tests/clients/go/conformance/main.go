// Command conformance drives a server by SPIRE's own API, as SPIRE's integration suites do, and says where it is not
// what their users expect. It goes by the facts of SPIRE's documentation, area by area; each area wants a server that
// nobody has used before.
//
// Usage: conformance AREA SOCKET ADDRESS BUNDLE-FILE
//
// Each case is a line on standard output. It fails if one of them does.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"
)

// areas are the cases by the part of the API that they are about.
var areas = map[string][]named{
	"authorization": authorization,
	"agent":         agents,
	"bundle":        bundles,
	"entry":         entries,
	"expiry":        expiry,
	"health":        health,
	"svid":          svids,
	"sync":          synchronization,
}

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: conformance AREA SOCKET ADDRESS BUNDLE-FILE")
	}
	cases, known := areas[os.Args[1]]
	if !known {
		log.Fatalf("there is no area %q", os.Args[1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	defer cancel()
	server := connect(ctx, os.Args[2], os.Args[3], os.Args[4])
	failed := 0
	for _, named := range cases {
		if failure := named.outcome(server); failure != "" {
			failed++
			fmt.Printf("FAILED %s: %s\n", named.name, failure)
		} else {
			fmt.Printf("ok %s\n", named.name)
		}
	}
	if failed > 0 {
		log.Fatalf("%d of %d cases failed", failed, len(cases))
	}
}
