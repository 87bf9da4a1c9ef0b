# Knative Serving on a cluster that is there, with Elasticsearch and a bucket that are there. No provider is needed: what
# `skytally deploy` does may be repeated, secrets go by file, and no value of theirs is in the state.
terraform {
  required_version = ">= 1.9"
}

locals {
  key_files    = { for name in fileset(var.keys_folder, "{master,wrapping,token}-*") : name => abspath("${var.keys_folder}/${name}") }
  secret_files = merge(local.key_files, { for name, path in var.secret_files : name => abspath(path) })

  # With the activator always on the way, X-Forwarded-For has three entries of proxies, and one more through a path route.
  settings = merge({ SKYTALLY_TRUSTED_HOPS = var.route_gateway == "" ? "3" : "4" }, var.settings)

  deployment = {
    image             = var.image
    settings          = local.settings
    secrets           = sort(keys(local.secret_files))
    secret_files      = local.secret_files
    function_settings = var.function_settings
    schedules         = var.schedules
  }

  access = {
    SKYTALLY_PLATFORM      = "knative"
    SKYTALLY_NAMESPACE     = var.namespace
    SKYTALLY_ROUTE_GATEWAY = var.route_gateway
    SKYTALLY_ROUTE_HOST    = var.route_host
    KUBECONFIG             = var.kubeconfig
  }
}

resource "terraform_data" "site" {
  input = {
    cli    = var.cli
    access = local.access
  }

  provisioner "local-exec" {
    when        = destroy
    command     = "${self.input.cli} deploy remove --all"
    environment = self.input.access
  }
}

resource "terraform_data" "secret" {
  for_each = local.secret_files

  input = {
    cli    = var.cli
    name   = each.key
    access = local.access
  }

  provisioner "local-exec" {
    when        = destroy
    command     = "${self.input.cli} deploy remove-secret ${self.input.name}"
    environment = self.input.access
  }
}

# A change rolls every function in place; the revision before answers until the new one does.
resource "terraform_data" "deployed" {
  triggers_replace = [sha256(jsonencode(local.deployment)), terraform_data.site.id, [for secret in terraform_data.secret : secret.id]]

  provisioner "local-exec" {
    command     = "printf %s \"$DESCRIPTION\" | ${var.cli} deploy apply -"
    environment = merge(local.access, { DESCRIPTION = jsonencode(local.deployment) })
  }
}

output "deployment" {
  description = "What is wanted: `terraform output -json deployment | skytally deploy status -` compares it with what runs."
  value       = local.deployment
}
