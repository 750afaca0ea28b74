// Command agent speaks to a server as an agent of SPIRE does, by SPIRE's own API: it attests with a join token,
// synchronizes entries, has SVIDs signed for them and renews its own. What it got goes to standard output as JSON.
//
// Usage: agent ADDRESS BUNDLE-FILE JOIN-TOKEN
package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

var (
	domain   = spiffeid.RequireTrustDomainFromString("example.org")
	serverID = spiffeid.RequireFromPath(domain, "/spire/server")
)

// Report is what is printed.
type Report struct {
	AgentID      string   `json:"agent_id"`
	Reattestable bool     `json:"reattestable"`
	Entries      []string `json:"entries"`
	Signed       []string `json:"signed"`
	Renewed      bool     `json:"renewed"`
	AfterRenewal int      `json:"entries_after_renewal"`
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	defer cancel()
	address, token := os.Args[1], os.Args[3]
	bundle, err := x509bundle.Load(domain, os.Args[2])
	must(err)

	svid, reattestable := attest(ctx, address, bundle, token)
	conn := dial(address, bundle, svid)
	entries := synchronize(ctx, conn)
	report := Report{
		AgentID:      svid.ID.String(),
		Reattestable: reattestable,
		Entries:      ids(entries),
		Signed:       sign(ctx, conn, bundle, entries),
	}
	newer := renew(ctx, conn)
	report.Renewed = newer.Certificates[0].SerialNumber.Cmp(svid.Certificates[0].SerialNumber) != 0
	authorized, err := entryv1.NewEntryClient(dial(address, bundle, newer)).
		GetAuthorizedEntries(ctx, &entryv1.GetAuthorizedEntriesRequest{})
	must(err)
	report.AfterRenewal = len(authorized.Entries)
	must(json.NewEncoder(os.Stdout).Encode(report))
}

func attest(ctx context.Context, address string, bundle *x509bundle.Bundle, token string) (*x509svid.SVID, bool) {
	key, csr := request()
	stream, err := agentv1.NewAgentClient(dial(address, bundle, nil)).AttestAgent(ctx)
	must(err)
	params := &agentv1.AttestAgentRequest_Params{
		Data:   &types.AttestationData{Type: "join_token", Payload: []byte(token)},
		Params: &agentv1.AgentX509SVIDParams{Csr: csr},
	}
	must(stream.Send(&agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{Params: params}}))
	response, err := stream.Recv()
	must(err)
	result := response.GetResult()
	if result == nil {
		log.Fatalf("a challenge instead of a result: %v", response)
	}
	return withKey(key, result.Svid), result.Reattestable
}

// synchronize asks for all revisions, then for the entries themselves.
func synchronize(ctx context.Context, conn *grpc.ClientConn) []*types.Entry {
	stream, err := entryv1.NewEntryClient(conn).SyncAuthorizedEntries(ctx)
	must(err)
	mask := &types.EntryMask{SpiffeId: true, ParentId: true, Selectors: true, RevisionNumber: true}
	must(stream.Send(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: mask}))
	entries, revisions := receive(stream)
	if len(revisions) > 0 {
		must(stream.Send(&entryv1.SyncAuthorizedEntriesRequest{Ids: revisions}))
		more, _ := receive(stream)
		entries = append(entries, more...)
	}
	must(stream.CloseSend())
	return entries
}

func receive(stream entryv1.Entry_SyncAuthorizedEntriesClient) (entries []*types.Entry, revisions []string) {
	for {
		response, err := stream.Recv()
		must(err)
		entries = append(entries, response.Entries...)
		for _, revision := range response.EntryRevisions {
			revisions = append(revisions, revision.Id)
		}
		if !response.More {
			return entries, revisions
		}
	}
}

// sign has an SVID signed for each entry, and verifies it.
func sign(ctx context.Context, conn *grpc.ClientConn, bundle *x509bundle.Bundle, entries []*types.Entry) []string {
	batch, keys := &svidv1.BatchNewX509SVIDRequest{}, []crypto.Signer{}
	for _, entry := range entries {
		key, csr := request()
		keys = append(keys, key)
		batch.Params = append(batch.Params, &svidv1.NewX509SVIDParams{EntryId: entry.Id, Csr: csr})
	}
	response, err := svidv1.NewSVIDClient(conn).BatchNewX509SVID(ctx, batch)
	must(err)
	signed := []string{}
	for i, result := range response.Results {
		if result.Status.Code != 0 {
			log.Fatalf("not signed: %v", result.Status)
		}
		svid := withKey(keys[i], result.Svid)
		id, _, err := x509svid.Verify(svid.Certificates, bundle)
		must(err)
		signed = append(signed, id.String())
	}
	return signed
}

func renew(ctx context.Context, conn *grpc.ClientConn) *x509svid.SVID {
	key, csr := request()
	params := &agentv1.AgentX509SVIDParams{Csr: csr}
	response, err := agentv1.NewAgentClient(conn).RenewAgent(ctx, &agentv1.RenewAgentRequest{Params: params})
	must(err)
	return withKey(key, response.Svid)
}

func dial(address string, bundle *x509bundle.Bundle, svid *x509svid.SVID) *grpc.ClientConn {
	config := tlsconfig.TLSClientConfig(bundle, tlsconfig.AuthorizeID(serverID))
	if svid != nil {
		config = tlsconfig.MTLSClientConfig(svid, bundle, tlsconfig.AuthorizeID(serverID))
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	must(err)
	return conn
}

func request() (crypto.Signer, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(err)
	return key, csr
}

// withKey puts what the server certified and the key together, as far as they match.
func withKey(key crypto.Signer, wire *types.X509SVID) *x509svid.SVID {
	var chain []byte
	for _, certificate := range wire.CertChain {
		chain = append(chain, certificate...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	svid, err := x509svid.ParseRaw(chain, der)
	must(err)
	if said := fmt.Sprintf("spiffe://%s%s", wire.Id.TrustDomain, wire.Id.Path); said != svid.ID.String() {
		must(errors.New("the answer names " + said + ", the SVID " + svid.ID.String()))
	}
	return svid
}

func ids(entries []*types.Entry) []string {
	ids := []string{}
	for _, entry := range entries {
		ids = append(ids, fmt.Sprintf("spiffe://%s%s", entry.SpiffeId.TrustDomain, entry.SpiffeId.Path))
	}
	return ids
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
