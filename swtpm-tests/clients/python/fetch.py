"""A workload as the PyPI package `spiffe` makes them: prints the X.509 context that it gets, as JSON."""

import json

from spiffe import TrustDomain, WorkloadApiClient

with WorkloadApiClient() as client:
    context = client.fetch_x509_context(timeout=30)
    bundle = context.x509_bundle_set.get_bundle_for_trust_domain(TrustDomain("example.org"))
    svids = [str(svid.spiffe_id) for svid in context.x509_svids]
    print(json.dumps({"svids": svids, "authorities": len(bundle.x509_authorities)}))
