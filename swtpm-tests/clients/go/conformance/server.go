package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"log"
	"net/url"
	"strings"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

var (
	domain   = spiffeid.RequireTrustDomainFromString("example.org")
	serverID = spiffeid.RequireFromPath(domain, "/spire/server")
)

// server is where to ask, and with what.
type server struct {
	ctx     context.Context
	address string
	roots   *x509bundle.Bundle
	// local is the connection that administers.
	local *grpc.ClientConn
}

func connect(ctx context.Context, socket, address, bundle string) *server {
	roots, err := x509bundle.Load(domain, bundle)
	if err != nil {
		log.Fatal(err)
	}
	local, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	return &server{ctx: ctx, address: address, roots: roots, local: local}
}

// dial opens a connection over TLS as the holder of an SVID, or as nobody.
func (s *server) dial(svid *x509svid.SVID) *grpc.ClientConn {
	config := tlsconfig.TLSClientConfig(s.roots, tlsconfig.AuthorizeID(serverID))
	if svid != nil {
		config = tlsconfig.MTLSClientConfig(svid, s.roots, tlsconfig.AuthorizeID(serverID))
	}
	return the(grpc.NewClient(s.address, grpc.WithTransportCredentials(credentials.NewTLS(config))))
}

func agentClient(conn *grpc.ClientConn) agentv1.AgentClient    { return agentv1.NewAgentClient(conn) }
func bundleClient(conn *grpc.ClientConn) bundlev1.BundleClient { return bundlev1.NewBundleClient(conn) }
func entryClient(conn *grpc.ClientConn) entryv1.EntryClient    { return entryv1.NewEntryClient(conn) }
func svidClient(conn *grpc.ClientConn) svidv1.SVIDClient       { return svidv1.NewSVIDClient(conn) }

// mint has an administrator sign an SVID.
func (s *server) mint(path string) *x509svid.SVID {
	key, csr := request(&x509.CertificateRequest{URIs: []*url.URL{uri(path)}})
	minted := the(svidClient(s.local).MintX509SVID(s.ctx, &svidv1.MintX509SVIDRequest{Csr: csr}))
	return withKey(key, minted.Svid)
}

// token generates a join token.
func (s *server) token() string {
	token := the(agentClient(s.local).CreateJoinToken(s.ctx, &agentv1.CreateJoinTokenRequest{Ttl: 600}))
	return token.Value
}

// attest shows a join token; the outcome is the agent's SVID.
func (s *server) attest(token string) (*x509svid.SVID, error) {
	key, csr := request(&x509.CertificateRequest{})
	answer, err := s.attestWith(&agentv1.AttestAgentRequest_Params{
		Data:   &types.AttestationData{Type: "join_token", Payload: []byte(token)},
		Params: &agentv1.AgentX509SVIDParams{Csr: csr},
	})
	if err != nil {
		return nil, err
	}
	result := answer.GetResult()
	equal("reattestable", result.Reattestable, false)
	return withKey(key, result.Svid), nil
}

func (s *server) attestWith(params *agentv1.AttestAgentRequest_Params) (*agentv1.AttestAgentResponse, error) {
	conn := s.dial(nil)
	defer conn.Close()
	stream := the(agentClient(conn).AttestAgent(s.ctx))
	must(stream.Send(&agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{Params: params}}))
	return stream.Recv()
}

// agent attests a new agent, and dials as it.
func (s *server) agent() (*x509svid.SVID, *grpc.ClientConn) {
	svid := the(s.attest(s.token()))
	return svid, s.dial(svid)
}

// create registers entries that must all be new.
func (s *server) create(wanted ...*types.Entry) []*types.Entry {
	var created []*types.Entry
	for _, result := range s.tryCreate(wanted...) {
		item(result.Status, 0)
		created = append(created, result.Entry)
	}
	equal("created", len(created), len(wanted))
	return created
}

func (s *server) tryCreate(wanted ...*types.Entry) []*entryv1.BatchCreateEntryResponse_Result {
	return the(entryClient(s.local).BatchCreateEntry(s.ctx, &entryv1.BatchCreateEntryRequest{Entries: wanted})).Results
}

// request makes a key and a request for its certificate.
func request(template *x509.CertificateRequest) (crypto.Signer, []byte) {
	key := the(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return key, the(x509.CreateCertificateRequest(rand.Reader, template, key))
}

// withKey puts what the server certified and the key together, as far as they match.
func withKey(key crypto.Signer, wire *types.X509SVID) *x509svid.SVID {
	var chain []byte
	for _, certificate := range wire.CertChain {
		chain = append(chain, certificate...)
	}
	svid := the(x509svid.ParseRaw(chain, the(x509.MarshalPKCS8PrivateKey(key))))
	equal("ID beside the certificate", text(wire.Id), svid.ID.String())
	equal("end beside the certificate", wire.ExpiresAt, svid.Certificates[0].NotAfter.Unix())
	return svid
}

func id(path string) *types.SPIFFEID { return &types.SPIFFEID{TrustDomain: domain.Name(), Path: path} }

func idOf(svid *x509svid.SVID) *types.SPIFFEID { return id(svid.ID.Path()) }

func text(id *types.SPIFFEID) string { return "spiffe://" + id.GetTrustDomain() + id.GetPath() }

func uri(path string) *url.URL {
	if strings.HasPrefix(path, "/") {
		path = "spiffe://example.org" + path
	}
	return the(url.Parse(path))
}

// selectors reads "type:value".
func selectors(texts ...string) []*types.Selector {
	var selectors []*types.Selector
	for _, text := range texts {
		kind, value, _ := strings.Cut(text, ":")
		selectors = append(selectors, &types.Selector{Type: kind, Value: value})
	}
	return selectors
}

// entry is the shortest one: unix:uid:1 unless said otherwise.
func entry(parent, path string, change ...func(*types.Entry)) *types.Entry {
	entry := &types.Entry{ParentId: id(parent), SpiffeId: id(path), Selectors: selectors("unix:uid:1")}
	for _, change := range change {
		change(entry)
	}
	return entry
}
