package main

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

var agents = []named{
	{"a join token is what was asked for", joinTokens},
	{"a join token that can't be is refused", joinTokensAreChecked},
	{"a join token gives its agent another ID as well", joinTokenAlias},
	{"a join token attests one agent, once", attestOnce},
	{"a join token shown by many at once attests one", attestOnceOfMany},
	{"an attestation that can't be is refused", attestIsChecked},
	{"a renewed SVID replaces the old one with its first use", renew},
	{"a renewal that can't be is refused", renewIsChecked},
	{"agents are listed and counted by filters", listAgents},
	{"pages of any size show every agent once", listAgentPages},
	{"an agent is got by its ID", getAgent},
	{"a banned agent is told so, and does not come back", ban},
	{"a deleted agent is told that it is not attested", deleteAgent},
	{"an agent says what version it is", postStatus},
}

// expiry needs agents that live for a second.
var expiry = []named{
	{"an agent is told that its SVID ended", func(s *server) {
		svid, conn := s.agent()
		var err error
		for err == nil {
			err = s.ask(conn)
		}
		equal("is over", !time.Now().Before(svid.Certificates[0].NotAfter), true)
		denied(err, types.PermissionDeniedDetails_AGENT_EXPIRED)
	}},
	{"a join token ends", func(s *server) {
		token := the(agentClient(s.local).CreateJoinToken(s.ctx, &agentv1.CreateJoinTokenRequest{Ttl: 1}))
		// Another caller who waits for the time: an agent whose SVID ends a second later than the token.
		_, conn := s.agent()
		for s.ask(conn) == nil {
		}
		_, err := s.attest(token.Value)
		refused(err, codes.InvalidArgument, "failed to attest: join token")
	}},
}

// ask makes a call that agents may make.
func (s *server) ask(conn *grpc.ClientConn) error {
	_, err := entryClient(conn).GetAuthorizedEntries(s.ctx, &entryv1.GetAuthorizedEntriesRequest{})
	return err
}

func (s *server) createToken(request *agentv1.CreateJoinTokenRequest) (*types.JoinToken, error) {
	return agentClient(s.local).CreateJoinToken(s.ctx, request)
}

func joinTokens(s *server) {
	before := time.Now().Unix()
	token := the(s.createToken(&agentv1.CreateJoinTokenRequest{Ttl: 100, Token: "of-my-own"}))
	equal("value", token.Value, "of-my-own")
	if token.ExpiresAt < before+100 || token.ExpiresAt > time.Now().Unix()+100 {
		failf("ends at %d", token.ExpiresAt)
	}
	made := the(s.createToken(&agentv1.CreateJoinTokenRequest{Ttl: 100})).Value
	equal("length of a token", len(made), 36)
	svid := the(s.attest("of-my-own"))
	equal("agent", svid.ID.String(), "spiffe://example.org/spire/agent/join_token/of-my-own")
}

func joinTokensAreChecked(s *server) {
	check := func(request *agentv1.CreateJoinTokenRequest, code codes.Code, says string) {
		_, err := s.createToken(request)
		refused(err, code, says)
	}
	for _, ttl := range []int32{0, -1} {
		check(&agentv1.CreateJoinTokenRequest{Ttl: ttl}, codes.InvalidArgument, "ttl is required, you must provide one")
	}
	foreign := &types.SPIFFEID{TrustDomain: "other.example", Path: "/x"}
	for _, wrong := range []*types.SPIFFEID{foreign, id(""), id("/spire/agent/x"), id("no/slash")} {
		check(&agentv1.CreateJoinTokenRequest{Ttl: 1, AgentId: wrong}, codes.InvalidArgument, "invalid agent ID")
	}
	check(&agentv1.CreateJoinTokenRequest{Ttl: 1, Token: "no path"}, codes.InvalidArgument, "")
	twice := &agentv1.CreateJoinTokenRequest{Ttl: 100, Token: "twice"}
	the(s.createToken(twice))
	check(twice, codes.AlreadyExists, "failed to create token")
}

func joinTokenAlias(s *server) {
	token := the(s.createToken(&agentv1.CreateJoinTokenRequest{Ttl: 100, AgentId: id("/alias")}))
	svid := the(s.attest(token.Value))
	filter := &entryv1.ListEntriesRequest_Filter{BySpiffeId: id("/alias")}
	listed := the(entryClient(s.local).ListEntries(s.ctx, &entryv1.ListEntriesRequest{Filter: filter})).Entries
	equal("aliases", len(listed), 1)
	same("parent", listed[0].ParentId, idOf(svid))
	equal("selectors", len(listed[0].Selectors), 1)
	same("selector", listed[0].Selectors[0], &types.Selector{Type: "spiffe_id", Value: svid.ID.String()})
	child := s.create(entry("/alias", "/alias/workload"))[0]
	got := s.synchronize(s.dial(svid), nil)
	equal("entries", len(got.entries), 2)
	same("entry of the alias", got.entries[child.Id].SpiffeId, child.SpiffeId)

	the(agentClient(s.local).DeleteAgent(s.ctx, &agentv1.DeleteAgentRequest{Id: idOf(svid)}))
	equal("alias of an agent that is gone", s.list(filter), "")
}

func attestOnce(s *server) {
	token := s.token()
	svid := the(s.attest(token))
	equal("agent", svid.ID.String(), "spiffe://example.org/spire/agent/join_token/"+token)
	_, _, err := x509svid.Verify(svid.Certificates, s.roots)
	must(err)
	must(s.ask(s.dial(svid)))
	_, err = s.attest(token)
	refused(err, codes.InvalidArgument, "failed to attest: join token does not exist or has already been used")
	_, err = s.attest("nothing")
	refused(err, codes.InvalidArgument, "failed to attest: join token does not exist or has already been used")
	// That somebody tried costs the agent nothing.
	must(s.ask(s.dial(svid)))
}

func attestOnceOfMany(s *server) {
	token, errs := s.token(), make(chan error)
	for range 16 {
		_, csr := request(&x509.CertificateRequest{})
		params := &agentv1.AttestAgentRequest_Params{
			Data:   &types.AttestationData{Type: "join_token", Payload: []byte(token)},
			Params: &agentv1.AgentX509SVIDParams{Csr: csr},
		}
		stream := the(agentClient(s.dial(nil)).AttestAgent(s.ctx))
		go func() {
			// Why it failed is said to who asks for an answer.
			_ = stream.Send(&agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{Params: params}})
			_, err := stream.Recv()
			errs <- err
		}()
	}
	attested := 0
	for range 16 {
		if err := <-errs; err == nil {
			attested++
		} else {
			refused(err, codes.InvalidArgument, "failed to attest: join token does not exist or has already been used")
		}
	}
	equal("attested", attested, 1)
}

func attestIsChecked(s *server) {
	token := s.token()
	_, csr := request(&x509.CertificateRequest{})
	good := func() *agentv1.AttestAgentRequest_Params {
		return &agentv1.AttestAgentRequest_Params{
			Data:   &types.AttestationData{Type: "join_token", Payload: []byte(token)},
			Params: &agentv1.AgentX509SVIDParams{Csr: csr},
		}
	}
	check := func(code codes.Code, says string, change func(*agentv1.AttestAgentRequest_Params)) {
		params := good()
		change(params)
		_, err := s.attestWith(params)
		refused(err, code, says)
	}
	type params = *agentv1.AttestAgentRequest_Params
	check(codes.InvalidArgument, "malformed param: missing attestation data", func(p params) { p.Data = nil })
	check(codes.InvalidArgument, "malformed param: missing attestation data type", func(p params) { p.Data.Type = "" })
	check(codes.InvalidArgument, "malformed param: missing attestation data payload", func(p params) { p.Data.Payload = nil })
	check(codes.InvalidArgument, "malformed param: missing X509-SVID parameters", func(p params) { p.Params = nil })
	check(codes.InvalidArgument, "malformed param: missing CSR", func(p params) { p.Params.Csr = nil })
	check(codes.InvalidArgument, "failed to parse CSR", func(p params) { p.Params.Csr = []byte("no CSR") })
	check(codes.FailedPrecondition, `could not find node attestor type "nothing"`, func(p params) { p.Data.Type = "nothing" })

	stream := the(agentClient(s.dial(nil)).AttestAgent(s.ctx))
	must(stream.Send(&agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_ChallengeResponse{}}))
	_, err := stream.Recv()
	refused(err, codes.InvalidArgument, "missing params")
	// None of it spent the token.
	the(s.attestWith(good()))
}

func (s *server) renew(conn *grpc.ClientConn) *x509svid.SVID {
	key, csr := request(&x509.CertificateRequest{})
	params := &agentv1.RenewAgentRequest{Params: &agentv1.AgentX509SVIDParams{Csr: csr}}
	return withKey(key, the(agentClient(conn).RenewAgent(s.ctx, params)).Svid)
}

func renew(s *server) {
	old, conn := s.agent()
	unused, used := s.renew(conn), s.renew(conn)
	equal("ID", used.ID, old.ID)
	must(s.ask(conn))
	// Only the newest counts beside the old one.
	denied(s.ask(s.dial(unused)), types.PermissionDeniedDetails_AGENT_NOT_ACTIVE)
	must(s.ask(conn))
	equal("serial before the first use", s.agentRow(old).X509SvidSerialNumber, old.Certificates[0].SerialNumber.String())
	newer := s.dial(used)
	must(s.ask(newer))
	denied(s.ask(conn), types.PermissionDeniedDetails_AGENT_NOT_ACTIVE)
	must(s.ask(newer))
	row := s.agentRow(old)
	equal("serial", row.X509SvidSerialNumber, used.Certificates[0].SerialNumber.String())
	equal("end", row.X509SvidExpiresAt, used.Certificates[0].NotAfter.Unix())
	must(s.ask(s.dial(s.renew(newer))))
}

func renewIsChecked(s *server) {
	_, conn := s.agent()
	check := func(params *agentv1.AgentX509SVIDParams, says string) {
		_, err := agentClient(conn).RenewAgent(s.ctx, &agentv1.RenewAgentRequest{Params: params})
		refused(err, codes.InvalidArgument, says)
	}
	check(nil, "params cannot be nil")
	check(&agentv1.AgentX509SVIDParams{}, "missing CSR")
	check(&agentv1.AgentX509SVIDParams{Csr: []byte("no CSR")}, "failed to parse CSR")
	must(s.ask(conn))
}

func (s *server) agentRow(svid *x509svid.SVID) *types.Agent {
	return the(agentClient(s.local).GetAgent(s.ctx, &agentv1.GetAgentRequest{Id: idOf(svid)}))
}

// listed gives the IDs that a filter finds; the count has to agree.
func (s *server) listed(filter *agentv1.ListAgentsRequest_Filter) []string {
	counted := the(agentClient(s.local).CountAgents(s.ctx, &agentv1.CountAgentsRequest{
		Filter: &agentv1.CountAgentsRequest_Filter{
			ByAttestationType: filter.ByAttestationType,
			BySelectorMatch:   filter.BySelectorMatch,
			ByBanned:          filter.ByBanned,
			ByCanReattest:     filter.ByCanReattest,
			ByExpiresBefore:   filter.ByExpiresBefore,
		},
	}))
	var ids []string
	for _, agent := range the(agentClient(s.local).ListAgents(s.ctx, &agentv1.ListAgentsRequest{Filter: filter})).Agents {
		ids = append(ids, text(agent.Id))
	}
	equal("count", int(counted.Count), len(ids))
	return ids
}

func listAgents(s *server) {
	good, _ := s.agent()
	banned, _ := s.agent()
	s.ban(banned)
	check := func(what string, filter *agentv1.ListAgentsRequest_Filter, wantGood, wantBanned bool) {
		ids := s.listed(filter)
		equal(what+": the good one", slices.Contains(ids, good.ID.String()), wantGood)
		equal(what+": the banned one", slices.Contains(ids, banned.ID.String()), wantBanned)
	}
	type filter = agentv1.ListAgentsRequest_Filter
	check("all", &filter{}, true, true)
	check("banned", &filter{ByBanned: wrapperspb.Bool(true)}, false, true)
	check("not banned", &filter{ByBanned: wrapperspb.Bool(false)}, true, false)
	check("by type", &filter{ByAttestationType: "join_token"}, true, true)
	check("by another type", &filter{ByAttestationType: "tpm"}, false, false)
	check("reattestable", &filter{ByCanReattest: wrapperspb.Bool(true)}, false, false)
	check("not reattestable", &filter{ByCanReattest: wrapperspb.Bool(false)}, true, true)
	match := &types.SelectorMatch{Selectors: selectors("x:1"), Match: types.SelectorMatch_MATCH_ANY}
	check("by selector", &filter{BySelectorMatch: match}, false, false)
	// As Go prints it, and SPIRE's command line sends it.
	const layout = "2006-01-02 15:04:05 -0700 -07"
	end := good.Certificates[0].NotAfter
	check("expired", &filter{ByExpiresBefore: time.Now().Format(layout)}, false, false)
	check("expired soon", &filter{ByExpiresBefore: end.Add(time.Minute).In(time.FixedZone("", 7200)).Format(layout)}, true, true)

	for wrong, says := range map[*filter]string{
		{ByExpiresBefore: "tomorrow"}:                                           "tomorrow",
		{BySelectorMatch: &types.SelectorMatch{Selectors: selectors(":value")}}: "failed to parse selectors",
	} {
		_, err := agentClient(s.local).ListAgents(s.ctx, &agentv1.ListAgentsRequest{Filter: wrong})
		refused(err, codes.InvalidArgument, says)
	}
	masked := &agentv1.ListAgentsRequest{OutputMask: &types.AgentMask{AttestationType: true}}
	for _, agent := range the(agentClient(s.local).ListAgents(s.ctx, masked)).Agents {
		same("masked", agent, &types.Agent{Id: agent.Id, AttestationType: "join_token"})
	}
}

func listAgentPages(s *server) {
	for range 3 {
		s.agent()
	}
	all := len(s.listed(&agentv1.ListAgentsRequest_Filter{}))
	for _, size := range []int32{1, 2, 500, 5000} {
		seen, request := map[string]bool{}, &agentv1.ListAgentsRequest{PageSize: size}
		for more := true; more; more = request.PageToken != "" {
			page := the(agentClient(s.local).ListAgents(s.ctx, request))
			equal("fits the page", len(page.Agents) <= int(size), true)
			for _, agent := range page.Agents {
				seen[text(agent.Id)] = true
			}
			request.PageToken = page.NextPageToken
		}
		equal(fmt.Sprintf("agents on pages of %d", size), len(seen), all)
	}
}

func getAgent(s *server) {
	svid, _ := s.agent()
	leaf := svid.Certificates[0]
	want := &types.Agent{
		Id:                   idOf(svid),
		AttestationType:      "join_token",
		X509SvidSerialNumber: leaf.SerialNumber.String(),
		X509SvidExpiresAt:    leaf.NotAfter.Unix(),
	}
	same("agent", s.agentRow(svid), want)
	get := func(id *types.SPIFFEID, mask *types.AgentMask) (*types.Agent, error) {
		return agentClient(s.local).GetAgent(s.ctx, &agentv1.GetAgentRequest{Id: id, OutputMask: mask})
	}
	same("masked", the(get(idOf(svid), &types.AgentMask{})), &types.Agent{Id: want.Id})
	_, err := get(id("/spire/agent/join_token/nobody"), nil)
	refused(err, codes.NotFound, "agent not found")
	foreign := &types.SPIFFEID{TrustDomain: "other.example", Path: "/spire/agent/x/y"}
	for _, wrong := range []*types.SPIFFEID{nil, id("/workload"), id(""), foreign} {
		_, err := get(wrong, nil)
		refused(err, codes.InvalidArgument, "invalid agent ID")
		_, err = agentClient(s.local).BanAgent(s.ctx, &agentv1.BanAgentRequest{Id: wrong})
		refused(err, codes.InvalidArgument, "invalid agent ID")
		_, err = agentClient(s.local).DeleteAgent(s.ctx, &agentv1.DeleteAgentRequest{Id: wrong})
		refused(err, codes.InvalidArgument, "invalid agent ID")
	}
}

func (s *server) ban(svid *x509svid.SVID) {
	the(agentClient(s.local).BanAgent(s.ctx, &agentv1.BanAgentRequest{Id: idOf(svid)}))
}

func ban(s *server) {
	token := s.token()
	svid := the(s.attest(token))
	conn := s.dial(svid)
	must(s.ask(conn))
	before := s.agentRow(svid)
	s.ban(svid)
	denied(s.ask(conn), types.PermissionDeniedDetails_AGENT_BANNED)
	denied(s.ask(s.dial(svid)), types.PermissionDeniedDetails_AGENT_BANNED)
	_, err := agentClient(conn).RenewAgent(s.ctx, &agentv1.RenewAgentRequest{})
	denied(err, types.PermissionDeniedDetails_AGENT_BANNED)
	want := proto.Clone(before).(*types.Agent)
	want.Banned, want.X509SvidSerialNumber = true, ""
	same("row", s.agentRow(svid), want)
	// What is open to anyone stays open.
	_, err = bundleClient(conn).GetBundle(s.ctx, &bundlev1.GetBundleRequest{})
	must(err)

	_, err = s.attest(token)
	refused(err, codes.InvalidArgument, "failed to attest")
	_, err = s.createToken(&agentv1.CreateJoinTokenRequest{Ttl: 100, Token: token})
	refused(err, codes.AlreadyExists)
	_, err = agentClient(s.local).BanAgent(s.ctx, &agentv1.BanAgentRequest{Id: id("/spire/agent/join_token/nobody")})
	refused(err, codes.NotFound, "agent not found")
}

func deleteAgent(s *server) {
	token := s.token()
	svid := the(s.attest(token))
	conn := s.dial(svid)
	must(s.ask(conn))
	remove := func() error {
		_, err := agentClient(s.local).DeleteAgent(s.ctx, &agentv1.DeleteAgentRequest{Id: idOf(svid)})
		return err
	}
	must(remove())
	denied(s.ask(conn), types.PermissionDeniedDetails_AGENT_NOT_ATTESTED)
	refused(remove(), codes.NotFound, "agent not found")
	_, err := s.attest(token)
	refused(err, codes.InvalidArgument, "failed to attest")

	// One of that name may come again; what its predecessor had counts for nothing.
	the(s.createToken(&agentv1.CreateJoinTokenRequest{Ttl: 100, Token: token}))
	again := the(s.attest(token))
	equal("ID", again.ID, svid.ID)
	must(s.ask(s.dial(again)))
	denied(s.ask(conn), types.PermissionDeniedDetails_AGENT_NOT_ACTIVE)
	// A ban is lifted by deleting the agent.
	s.ban(again)
	must(remove())
	denied(s.ask(s.dial(again)), types.PermissionDeniedDetails_AGENT_NOT_ATTESTED)
}

func postStatus(s *server) {
	svid, conn := s.agent()
	post := func(version string) error {
		_, err := agentClient(conn).PostStatus(s.ctx, with(&agentv1.PostStatusRequest{}, postedVersion, version))
		return err
	}
	must(post(""))
	equal("version", newer(s.agentRow(svid), agentVersion), "")
	must(post("1.15.3"))
	equal("version", newer(s.agentRow(svid), agentVersion), "1.15.3")
	longest := strings.Repeat("x", 255)
	must(post(longest))
	refused(post(longest+"x"), codes.InvalidArgument, "max 255")
	equal("version", newer(s.agentRow(svid), agentVersion), longest)
}
