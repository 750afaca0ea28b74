package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// Cases of MintJWTSVID and NewJWTSVID belong here when the server has them; see `later` in authorization.go.
var svids = []named{
	{"an SVID is minted as the request says", mint},
	{"an SVID lives as long as asked, within its authority", mintTTL},
	{"keys of each usual kind are certified", mintKeys},
	{"a request that can't be minted is refused", mintIsChecked},
	{"an SVID has the profile that relying parties expect", profile},
	{"each of a batch is signed or refused by itself", batchIsPerItem},
	{"an entry decides what its SVID says", entryDecides},
	{"a batch of SVIDs has its limit", batchIsLimited},
}

var bundles = []named{
	{"the bundle is what the server signs with", func(s *server) {
		bundle := s.bundle(nil)
		equal("trust domain", bundle.TrustDomain, "example.org")
		equal("authorities", len(bundle.X509Authorities), 1)
		equal("as shown", bundle.X509Authorities[0].Asn1, s.roots.X509Authorities()[0].Raw)
		equal("tainted", bundle.X509Authorities[0].Tainted, false)
		equal("JWT authorities", len(bundle.JwtAuthorities), 1)
		the(x509.ParsePKIXPublicKey(bundle.JwtAuthorities[0].PublicKey))
		equal("has a key ID", bundle.JwtAuthorities[0].KeyId != "", true)
		equal("has an end", bundle.JwtAuthorities[0].ExpiresAt > time.Now().Unix(), true)
		equal("has a sequence number", bundle.SequenceNumber > 0, true)
	}},
	{"a mask narrows the bundle", func(s *server) {
		all := s.bundle(nil)
		check := func(mask *types.BundleMask, want *types.Bundle) {
			want.TrustDomain = all.TrustDomain
			same("masked", s.bundle(mask), want)
		}
		check(&types.BundleMask{}, &types.Bundle{})
		check(&types.BundleMask{X509Authorities: true}, &types.Bundle{X509Authorities: all.X509Authorities})
		check(&types.BundleMask{JwtAuthorities: true}, &types.Bundle{JwtAuthorities: all.JwtAuthorities})
		check(&types.BundleMask{SequenceNumber: true}, &types.Bundle{SequenceNumber: all.SequenceNumber})
		check(&types.BundleMask{RefreshHint: true}, &types.Bundle{RefreshHint: all.RefreshHint})
		check(&types.BundleMask{WitAuthorities: true}, &types.Bundle{})
	}},
}

// bundle is what everybody is given: nobody, an agent, and the local socket.
func (s *server) bundle(mask *types.BundleMask) *types.Bundle {
	request := &bundlev1.GetBundleRequest{OutputMask: mask}
	bundle := the(bundleClient(s.local).GetBundle(s.ctx, request))
	_, agent := s.agent()
	same("bundle for an agent", the(bundleClient(agent).GetBundle(s.ctx, request)), bundle)
	same("bundle for nobody", the(bundleClient(s.dial(nil)).GetBundle(s.ctx, request)), bundle)
	return bundle
}

func (s *server) mintWith(csr []byte, ttl int32) (*types.X509SVID, error) {
	minted, err := svidClient(s.local).MintX509SVID(s.ctx, &svidv1.MintX509SVIDRequest{Csr: csr, Ttl: ttl})
	return minted.GetSvid(), err
}

func csrFor(path string, names ...string) (crypto.Signer, []byte) {
	return request(&x509.CertificateRequest{URIs: []*url.URL{uri(path)}, DNSNames: names})
}

func mint(s *server) {
	key, csr := csrFor("/mint/db", "db.example.org", "db")
	svid := withKey(key, the(s.mintWith(csr, 0)))
	equal("ID", svid.ID.String(), "spiffe://example.org/mint/db")
	leaf := svid.Certificates[0]
	equal("DNS names", leaf.DNSNames, []string{"db.example.org", "db"})
	equal("common name", leaf.Subject.CommonName, "db.example.org")
	verified, _, err := x509svid.Verify(svid.Certificates, s.roots)
	must(err)
	equal("verified ID", verified, svid.ID)
}

func mintTTL(s *server) {
	root := s.roots.X509Authorities()[0]
	check := func(ttl int32, want time.Duration) {
		key, csr := csrFor("/mint/ttl")
		before := time.Now()
		leaf := withKey(key, the(s.mintWith(csr, ttl))).Certificates[0]
		from, to := before.Add(want).Truncate(time.Second), time.Now().Add(want)
		if leaf.NotAfter.Before(from) || leaf.NotAfter.After(to) {
			failf("ttl %d: ends %v, want between %v and %v", ttl, leaf.NotAfter, from, to)
		}
	}
	check(60, time.Minute)
	check(0, time.Hour)
	key, csr := csrFor("/mint/ttl")
	longest := withKey(key, the(s.mintWith(csr, 10*365*24*3600))).Certificates[0]
	equal("end of the longest", longest.NotAfter, root.NotAfter)
}

func mintKeys(s *server) {
	p384 := the(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	for _, key := range []crypto.Signer{p384, the(rsa.GenerateKey(rand.Reader, 2048))} {
		template := &x509.CertificateRequest{URIs: []*url.URL{uri("/mint/keys")}}
		csr := the(x509.CreateCertificateRequest(rand.Reader, template, key))
		svid := withKey(key, the(s.mintWith(csr, 0)))
		_, _, err := x509svid.Verify(svid.Certificates, s.roots)
		must(err)
	}
}

func mintIsChecked(s *server) {
	check := func(csr []byte, says string) {
		_, err := s.mintWith(csr, 0)
		refused(err, codes.InvalidArgument, says)
	}
	check(nil, "missing CSR")
	check([]byte("no CSR"), "malformed CSR")
	_, good := csrFor("/mint/checked")
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	check(forged, "malformed CSR")
	_, none := request(&x509.CertificateRequest{})
	check(none, "CSR URI SAN is required")
	_, two := request(&x509.CertificateRequest{URIs: []*url.URL{uri("/mint/a"), uri("/mint/b")}})
	check(two, "only one URI SAN is expected")
	for _, wrong := range []string{
		"spiffe://other.example/db", "https://example.org/db", "spiffe://example.org", "spiffe://example.org/spire/agent/x",
		"spiffe://example.org/spire/server",
	} {
		_, csr := csrFor(wrong)
		check(csr, "CSR URI SAN is invalid")
	}
	_, name := csrFor("/mint/checked", "-.example")
	check(name, "CSR DNS name is invalid")
}

func profile(s *server) {
	seen := map[string]bool{}
	longest := 0
	for range 16 {
		before := time.Now()
		svid := s.mint("/profile")
		leaf, root := svid.Certificates[0], s.roots.X509Authorities()[0]
		after := time.Now()
		equal("certificates", len(svid.Certificates), 1)
		equal("version", leaf.Version, 3)
		equal("serial is positive", leaf.SerialNumber.Sign(), 1)
		longest = max(longest, leaf.SerialNumber.BitLen())
		equal("serial is new", seen[leaf.SerialNumber.String()], false)
		seen[leaf.SerialNumber.String()] = true
		usage := x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
		equal("key usage", leaf.KeyUsage, usage)
		purposes := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		equal("extended key usage", leaf.ExtKeyUsage, purposes)
		equal("is an authority", leaf.IsCA, false)
		equal("says that it is none", leaf.BasicConstraintsValid, true)
		equal("URIs", fmt.Sprint(leaf.URIs), "[spiffe://example.org/profile]")
		equal("other names", len(leaf.DNSNames)+len(leaf.EmailAddresses)+len(leaf.IPAddresses), 0)
		equal("authority key ID", leaf.AuthorityKeyId, root.SubjectKeyId)
		equal("has a subject key ID", len(leaf.SubjectKeyId), 20)
		equal("issuer", leaf.RawIssuer, root.RawSubject)
		if leaf.NotBefore.Before(before.Add(-10*time.Second).Truncate(time.Second)) || leaf.NotBefore.After(after.Add(-10*time.Second)) {
			failf("begins %v, minted %v", leaf.NotBefore, before)
		}
	}
	// 128 bits, but for those that are zero by chance.
	equal("serial is long", longest > 112 && longest <= 128, true)
	root := s.roots.X509Authorities()[0]
	equal("the authority is one", root.IsCA, true)
	equal("key usage of the authority", root.KeyUsage, x509.KeyUsageCertSign|x509.KeyUsageCRLSign)
	equal("ID of the authority", fmt.Sprint(root.URIs), "[spiffe://example.org]")
}

func batchIsPerItem(s *server) {
	svid, conn := s.agent()
	created := s.create(
		entry(svid.ID.Path(), "/batch/mine"),
		entry("/elsewhere", "/batch/not-mine"),
		entry(svid.ID.Path(), "/batch/ended", func(entry *types.Entry) { entry.ExpiresAt = time.Now().Unix() - 1 }),
	)
	key, good := request(&x509.CertificateRequest{})
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	items := []struct {
		entry string
		csr   []byte
		code  codes.Code
		says  string
	}{
		{created[0].Id, good, codes.OK, ""},
		{"nothing", good, codes.NotFound, "entry not found or not authorized"},
		{created[1].Id, good, codes.NotFound, "entry not found or not authorized"},
		{created[2].Id, good, codes.NotFound, "entry not found or not authorized"},
		{"", good, codes.InvalidArgument, "missing entry ID"},
		{created[0].Id, nil, codes.InvalidArgument, "missing CSR"},
		{created[0].Id, []byte("no CSR"), codes.InvalidArgument, "malformed CSR"},
		{created[0].Id, forged, codes.InvalidArgument, "malformed CSR"},
		{created[0].Id, good, codes.OK, ""},
	}
	batch := &svidv1.BatchNewX509SVIDRequest{}
	for _, item := range items {
		batch.Params = append(batch.Params, &svidv1.NewX509SVIDParams{EntryId: item.entry, Csr: item.csr})
	}
	results := the(svidClient(conn).BatchNewX509SVID(s.ctx, batch)).Results
	equal("results", len(results), len(items))
	serials := map[string]bool{}
	for i, wanted := range items {
		item(results[i].Status, wanted.code, wanted.says)
		equal(fmt.Sprintf("item %d has an SVID", i), results[i].Svid != nil, wanted.code == codes.OK)
		if wanted.code == codes.OK {
			signed := withKey(key, results[i].Svid)
			equal("ID", signed.ID.Path(), "/batch/mine")
			serials[signed.Certificates[0].SerialNumber.String()] = true
		}
	}
	equal("serials", len(serials), 2)
}

func entryDecides(s *server) {
	svid, conn := s.agent()
	created := s.create(entry(svid.ID.Path(), "/decides", func(entry *types.Entry) {
		entry.X509SvidTtl, entry.DnsNames, entry.Hint = 120, []string{"db.example.org", "db"}, "internal"
	}))[0]
	// What the request says beside the key counts for nothing.
	key, csr := csrFor("/somebody/else", "evil.example")
	sign := func() *types.X509SVID {
		params := []*svidv1.NewX509SVIDParams{{EntryId: created.Id, Csr: csr}}
		result := the(svidClient(conn).BatchNewX509SVID(s.ctx, &svidv1.BatchNewX509SVIDRequest{Params: params})).Results[0]
		item(result.Status, codes.OK)
		return result.Svid
	}
	before := time.Now()
	signed := withKey(key, sign())
	leaf := signed.Certificates[0]
	equal("ID", signed.ID.Path(), "/decides")
	equal("DNS names", leaf.DNSNames, created.DnsNames)
	equal("common name", leaf.Subject.CommonName, "db.example.org")
	ttl := leaf.NotAfter.Sub(before)
	equal("lives as the entry says", ttl > 118*time.Second && ttl < 180*time.Second, true)

	updated := proto.Clone(created).(*types.Entry)
	updated.X509SvidTtl = 1 << 30
	item(s.update(nil, updated)[0].Status, codes.OK)
	longest := withKey(key, sign()).Certificates[0]
	equal("end of the longest", longest.NotAfter, s.roots.X509Authorities()[0].NotAfter)
}

func batchIsLimited(s *server) {
	svid, conn := s.agent()
	created := s.create(entry(svid.ID.Path(), "/limited"))[0]
	_, csr := request(&x509.CertificateRequest{})
	ask := func(count int) (*svidv1.BatchNewX509SVIDResponse, error) {
		batch := &svidv1.BatchNewX509SVIDRequest{}
		for range count {
			batch.Params = append(batch.Params, &svidv1.NewX509SVIDParams{EntryId: created.Id, Csr: csr})
		}
		return svidClient(conn).BatchNewX509SVID(s.ctx, batch)
	}
	_, err := ask(0)
	refused(err, codes.InvalidArgument, "missing parameters")
	_, err = ask(501)
	refused(err, codes.ResourceExhausted)
	for _, result := range the(ask(500)).Results {
		item(result.Status, codes.OK)
	}
}
