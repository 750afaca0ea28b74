package main

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	// Registered, so that methods that are still to come are known.
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/debug/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/localauthority/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/logger/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/trustdomain/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// method is to whom one is open: A holders of an admin SVID, L processes on the local socket, G agents, D holders of
// a downstream SVID, * anyone; ^ if it is served on the local socket alone.
type method struct {
	open string
	// admitted is what those get that may call: most requests are empty, and wrong in that.
	admitted codes.Code
	// request is what is asked, if not nothing.
	request proto.Message
}

// methods are all of SPIRE's server APIs, but for those that are later.
var methods = map[string]method{
	"grpc.health.v1.Health/Check": {open: "^L"},
	"grpc.health.v1.Health/List":  {open: "^L"},
	"grpc.health.v1.Health/Watch": {open: "^L"},

	"spire.api.server.agent.v1.Agent/AttestAgent":     {open: "*", admitted: codes.InvalidArgument},
	"spire.api.server.agent.v1.Agent/BanAgent":        {open: "AL", admitted: codes.InvalidArgument},
	"spire.api.server.agent.v1.Agent/CountAgents":     {open: "AL"},
	"spire.api.server.agent.v1.Agent/CreateJoinToken": {open: "AL", request: &agentv1.CreateJoinTokenRequest{Ttl: 60}},
	"spire.api.server.agent.v1.Agent/DeleteAgent":     {open: "AL", admitted: codes.InvalidArgument},
	"spire.api.server.agent.v1.Agent/GetAgent":        {open: "AL", admitted: codes.InvalidArgument},
	"spire.api.server.agent.v1.Agent/ListAgents":      {open: "AL"},
	"spire.api.server.agent.v1.Agent/PostStatus":      {open: "G"},
	"spire.api.server.agent.v1.Agent/RenewAgent":      {open: "G", admitted: codes.InvalidArgument},

	"spire.api.server.bundle.v1.Bundle/GetBundle": {open: "*"},

	"spire.api.server.entry.v1.Entry/BatchCreateEntry":      {open: "AL"},
	"spire.api.server.entry.v1.Entry/BatchDeleteEntry":      {open: "AL"},
	"spire.api.server.entry.v1.Entry/BatchUpdateEntry":      {open: "AL"},
	"spire.api.server.entry.v1.Entry/CountEntries":          {open: "AL"},
	"spire.api.server.entry.v1.Entry/GetAuthorizedEntries":  {open: "G"},
	"spire.api.server.entry.v1.Entry/GetEntry":              {open: "AL", admitted: codes.InvalidArgument},
	"spire.api.server.entry.v1.Entry/ListEntries":           {open: "AL"},
	"spire.api.server.entry.v1.Entry/SyncAuthorizedEntries": {open: "G"},

	"spire.api.server.svid.v1.SVID/BatchNewX509SVID": {open: "G", admitted: codes.InvalidArgument},
	"spire.api.server.svid.v1.SVID/MintX509SVID":     {open: "AL", admitted: codes.InvalidArgument},

	"spire.api.server.bundle.v1.Bundle/AppendBundle":                                {open: "AL", admitted: codes.InvalidArgument},
	"spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle":                  {open: "AL", admitted: codes.Unimplemented},
	"spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle":                  {open: "AL", admitted: codes.Unimplemented},
	"spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle":                     {open: "AL", admitted: codes.Unimplemented},
	"spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle":                  {open: "AL", admitted: codes.Unimplemented},
	"spire.api.server.bundle.v1.Bundle/CountBundles":                                {open: "AL"},
	"spire.api.server.bundle.v1.Bundle/GetFederatedBundle":                          {open: "ALG", admitted: codes.InvalidArgument},
	"spire.api.server.bundle.v1.Bundle/ListFederatedBundles":                        {open: "AL"},
	"spire.api.server.bundle.v1.Bundle/PublishJWTAuthority":                         {open: "D", admitted: codes.Unimplemented},
	"spire.api.server.bundle.v1.Bundle/PublishWITAuthority":                         {open: "D", admitted: codes.Unimplemented},
	"spire.api.server.debug.v1.Debug/GetInfo":                                       {open: "^L"},
	"spire.api.server.localauthority.v1.LocalAuthority/ActivateJWTAuthority":        {open: "AL", admitted: codes.InvalidArgument},
	"spire.api.server.localauthority.v1.LocalAuthority/ActivateWITAuthority":        {open: "AL", admitted: codes.Unimplemented},
	"spire.api.server.localauthority.v1.LocalAuthority/ActivateX509Authority":       {open: "AL", admitted: codes.InvalidArgument},
	"spire.api.server.localauthority.v1.LocalAuthority/GetJWTAuthorityState":        {open: "AL"},
	"spire.api.server.localauthority.v1.LocalAuthority/GetWITAuthorityState":        {open: "AL", admitted: codes.Unimplemented},
	"spire.api.server.localauthority.v1.LocalAuthority/GetX509AuthorityState":       {open: "AL"},
	"spire.api.server.localauthority.v1.LocalAuthority/PrepareJWTAuthority":         {open: "AL"},
	"spire.api.server.localauthority.v1.LocalAuthority/PrepareWITAuthority":         {open: "AL", admitted: codes.Unimplemented},
	"spire.api.server.localauthority.v1.LocalAuthority/PrepareX509Authority":        {open: "AL"},
	"spire.api.server.localauthority.v1.LocalAuthority/RevokeJWTAuthority":          {open: "AL", admitted: codes.InvalidArgument},
	"spire.api.server.localauthority.v1.LocalAuthority/RevokeWITAuthority":          {open: "AL", admitted: codes.Unimplemented},
	"spire.api.server.localauthority.v1.LocalAuthority/RevokeX509Authority":         {open: "AL", admitted: codes.InvalidArgument},
	"spire.api.server.localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority": {open: "AL", admitted: codes.FailedPrecondition},
	"spire.api.server.localauthority.v1.LocalAuthority/TaintJWTAuthority":           {open: "AL", admitted: codes.InvalidArgument},
	"spire.api.server.localauthority.v1.LocalAuthority/TaintWITAuthority":           {open: "AL", admitted: codes.Unimplemented},
	"spire.api.server.localauthority.v1.LocalAuthority/TaintX509Authority":          {open: "AL", admitted: codes.InvalidArgument},
	"spire.api.server.localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority":  {open: "AL", admitted: codes.FailedPrecondition},
	"spire.api.server.logger.v1.Logger/GetLogger":                                   {open: "^L"},
	"spire.api.server.logger.v1.Logger/ResetLogLevel":                               {open: "^L"},
	"spire.api.server.logger.v1.Logger/SetLogLevel":                                 {open: "^L", admitted: codes.InvalidArgument},
	"spire.api.server.svid.v1.SVID/BatchNewWITSVID":                                 {open: "G", admitted: codes.Unimplemented},
	"spire.api.server.svid.v1.SVID/MintJWTSVID":                                     {open: "AL", admitted: codes.InvalidArgument},
	"spire.api.server.svid.v1.SVID/MintWITSVID":                                     {open: "AL", admitted: codes.Unimplemented},
	"spire.api.server.svid.v1.SVID/NewDownstreamX509CA":                             {open: "D", admitted: codes.Unimplemented},
	"spire.api.server.svid.v1.SVID/NewJWTSVID":                                      {open: "G", admitted: codes.InvalidArgument},
}

// later are the methods that the server does not have: nobody may call them. One that comes moves into the table
// above, open to those whom its comment names.
var later = []string{
	"spire.api.server.trustdomain.v1.TrustDomain/BatchCreateFederationRelationship", // AL
	"spire.api.server.trustdomain.v1.TrustDomain/BatchDeleteFederationRelationship", // AL
	"spire.api.server.trustdomain.v1.TrustDomain/BatchUpdateFederationRelationship", // AL
	"spire.api.server.trustdomain.v1.TrustDomain/GetFederationRelationship",         // AL
	"spire.api.server.trustdomain.v1.TrustDomain/ListFederationRelationships",       // AL
	"spire.api.server.trustdomain.v1.TrustDomain/RefreshBundle",                     // AL
}

// caller is somebody of a class.
type caller struct {
	name string
	// class is the letter of method.open; none for those whom only * lets in.
	class string
	conn  *grpc.ClientConn
}

var authorization = []named{
	{"the table names every method of the server", everyMethodIsNamed},
	{"each class of caller gets at what the table says", eachClassGetsWhatItMay},
	{"what an administrator may, nobody may whose admin entry is gone", adminsAreAskedEachTime},
	{"a method that nobody knows is unimplemented", unknownMethods},
	{"who shows an SVID of another authority gets no connection", foreignAuthority},
}

func everyMethodIsNamed(*server) {
	named := map[string]bool{}
	for name := range methods {
		named[name] = true
	}
	for _, name := range later {
		named[name] = true
	}
	for name := range descriptors() {
		if !named[name] {
			failf("%s is not in the table", name)
		}
		delete(named, name)
	}
	equal("methods that are in the table only", named, map[string]bool{})
}

func eachClassGetsWhatItMay(s *server) {
	var wrong []string
	descriptors := descriptors()
	for _, caller := range s.callers() {
		for name, descriptor := range descriptors {
			want := expected(name, caller)
			err := call(s, caller.conn, descriptor, methods[name].request)
			if got := status.Code(err); got != want {
				wrong = append(wrong, fmt.Sprintf("%s by %s: got %v, want %v", name, caller.name, err, want))
			}
		}
	}
	if len(wrong) > 0 {
		failf("%d are wrong:\n%s", len(wrong), strings.Join(wrong, "\n"))
	}
}

func expected(name string, caller caller) codes.Code {
	method, stands := methods[name]
	switch {
	case !stands, strings.HasPrefix(method.open, "^") && caller.class != "L":
		return codes.Unimplemented
	case method.open == "*", caller.class != "" && strings.Contains(method.open, caller.class):
		return method.admitted
	default:
		return codes.PermissionDenied
	}
}

// callers are one of each class.
func (s *server) callers() []caller {
	s.create(
		entry("/host", "/administrator", func(entry *types.Entry) { entry.Admin = true }),
		entry("/host", "/downstream", func(entry *types.Entry) { entry.Downstream = true }),
		entry("/host", "/workload"),
	)
	_, agent := s.agent()
	return []caller{
		{"nobody", "", s.dial(nil)},
		{"a workload", "", s.dial(s.mint("/workload"))},
		{"an administrator by entry", "A", s.dial(s.mint("/administrator"))},
		// Of `admin_ids`.
		{"an administrator by configuration", "A", s.dial(s.mint("/boss"))},
		{"an agent", "G", agent},
		{"a downstream server", "D", s.dial(s.mint("/downstream"))},
		{"a process on the local socket", "L", s.local},
	}
}

func adminsAreAskedEachTime(s *server) {
	created := s.create(entry("/host", "/for-a-while", func(entry *types.Entry) { entry.Admin = true }))
	conn := s.dial(s.mint("/for-a-while"))
	_, err := agentClient(conn).CountAgents(s.ctx, &agentv1.CountAgentsRequest{})
	must(err)
	s.remove(created[0].Id)
	_, err = agentClient(conn).CountAgents(s.ctx, &agentv1.CountAgentsRequest{})
	refused(err, codes.PermissionDenied, "authorization denied for method", "/spire.api.server.agent.v1.Agent/CountAgents")
}

func unknownMethods(s *server) {
	for _, conn := range []*grpc.ClientConn{s.local, s.dial(nil)} {
		for _, name := range []string{"/spire.api.server.agent.v1.Agent/Nothing", "/nobody.Nothing/Nothing"} {
			refused(conn.Invoke(s.ctx, name, &agentv1.CountAgentsRequest{}, &agentv1.CountAgentsResponse{}), codes.Unimplemented)
		}
	}
}

func foreignAuthority(s *server) {
	key, _ := request(&x509.CertificateRequest{})
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		URIs:         []*url.URL{uri("/boss")},
	}
	der := the(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	forged := the(x509svid.ParseRaw(der, the(x509.MarshalPKCS8PrivateKey(key))))
	_, err := bundleClient(s.dial(forged)).GetBundle(s.ctx, &bundlev1.GetBundleRequest{})
	refused(err, codes.Unavailable)
}

// descriptors are the methods of SPIRE's server APIs and of the health service.
func descriptors() map[string]protoreflect.MethodDescriptor {
	found := map[string]protoreflect.MethodDescriptor{}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		name := string(file.Package())
		if !strings.HasPrefix(name, "spire.api.server.") && name != "grpc.health.v1" {
			return true
		}
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for i := range methods.Len() {
				method := methods.Get(i)
				found[fmt.Sprintf("%s/%s", method.Parent().FullName(), method.Name())] = method
			}
		}
		return true
	})
	return found
}

// call asks for one answer.
func call(s *server, conn *grpc.ClientConn, method protoreflect.MethodDescriptor, request proto.Message) error {
	name := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
	if request == nil {
		request = empty(method.Input())
	}
	if !method.IsStreamingServer() {
		return conn.Invoke(s.ctx, name, request, empty(method.Output()))
	}
	stream, err := conn.NewStream(s.ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, name)
	if err != nil {
		return err
	}
	// A call that was refused at once takes nothing; why is said to who asks for an answer.
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	must(stream.CloseSend())
	return stream.RecvMsg(empty(method.Output()))
}

func empty(message protoreflect.MessageDescriptor) proto.Message {
	return the(protoregistry.GlobalTypes.FindMessageByName(message.FullName())).New().Interface()
}
