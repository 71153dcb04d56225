# What the proxy may do in the vault: read its secrets, and have certificates signed. Not list, write, or choose another role.
path "secret/data/bartizan" { capabilities = ["read"] }
path "secret/data/idp"      { capabilities = ["read"] }
path "pki/sign/edge"        { capabilities = ["update"] }
