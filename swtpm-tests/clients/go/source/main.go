// Command source is a workload as go-spiffe makes them: it keeps an X509Source through a rotation, and speaks mTLS
// with itself by two of them, before and after. What it saw goes to standard output as JSON.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// Meeting is what client and server knew of each other.
type Meeting struct {
	ClientSaw string `json:"client_saw"`
	ServerSaw string `json:"server_saw"`
	Serial    string `json:"serial"`
}

// Report is what is printed.
type Report struct {
	Before Meeting `json:"before"`
	After  Meeting `json:"after"`
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	defer cancel()
	client, server := source(ctx), source(ctx)
	defer client.Close()
	defer server.Close()

	report := Report{Before: meet(ctx, client, server)}
	rotated(ctx, client, report.Before.Serial)
	rotated(ctx, server, report.Before.Serial)
	report.After = meet(ctx, client, server)
	must(json.NewEncoder(os.Stdout).Encode(report))
}

func source(ctx context.Context) *workloadapi.X509Source {
	source, err := workloadapi.NewX509Source(ctx)
	must(err)
	return source
}

// rotated waits until the source has an SVID with another serial number.
func rotated(ctx context.Context, source *workloadapi.X509Source, serial string) {
	for current(source).Certificates[0].SerialNumber.String() == serial {
		must(source.WaitUntilUpdated(ctx))
	}
}

func current(source *workloadapi.X509Source) *x509svid.SVID {
	svid, err := source.GetX509SVID()
	must(err)
	return svid
}

func meet(ctx context.Context, client, server *workloadapi.X509Source) Meeting {
	domain := tlsconfig.AuthorizeMemberOf(spiffeid.RequireTrustDomainFromString("example.org"))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", tlsconfig.MTLSServerConfig(server, server, domain))
	must(err)
	defer listener.Close()
	seen := make(chan string)
	go answer(listener, seen)

	dialer := tls.Dialer{Config: tlsconfig.MTLSClientConfig(client, client, domain)}
	conn, err := dialer.DialContext(ctx, "tcp", listener.Addr().String())
	must(err)
	defer conn.Close()
	_, err = io.ReadAll(conn)
	must(err)
	return Meeting{
		ClientSaw: peer(conn),
		ServerSaw: <-seen,
		Serial:    current(client).Certificates[0].SerialNumber.String(),
	}
}

func answer(listener net.Listener, seen chan<- string) {
	conn, err := listener.Accept()
	must(err)
	must(conn.(*tls.Conn).Handshake())
	id := peer(conn)
	must(conn.Close())
	seen <- id
}

func peer(conn net.Conn) string {
	id, err := x509svid.IDFromCert(conn.(*tls.Conn).ConnectionState().PeerCertificates[0])
	must(err)
	return id.String()
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
