# The whole system on one OpenFaaS gateway. Stores are there already, or made by a storage module beside this one: see examples/.
locals {
  key_files = { for name in fileset(var.keys_folder, "{master,wrapping,token}-*") : name => "${var.keys_folder}/${name}" }
  catalog   = jsondecode(file("${path.module}/functions/catalog.json"))
  mounted   = local.catalog.secrets_folder
  on_search = var.search != null

  search_settings = local.on_search ? merge(
    { SKYTALLY_DOCUMENTS_PREFIX = var.search.prefix },
    var.search.ca_file == "" ? {} : { SKYTALLY_DOCUMENTS_CA_FILE = "${local.mounted}/search-ca" },
  ) : {}
  files     = merge(local.key_files, var.secret_files, local.search_ca, local.on_search ? module.search[0].files : {})
  search_ca = local.on_search ? (var.search.ca_file == "" ? {} : { search-ca = var.search.ca_file }) : {}

  function_secrets = local.on_search ? module.search[0].function_secrets : {}
  search_keys = {
    for function, names in local.function_secrets : function => { SKYTALLY_DOCUMENTS_API_KEY_FILE = "${local.mounted}/${one(names)}" }
  }
  configured = toset(concat(keys(local.search_keys), keys(var.function_settings)))
}

module "search" {
  source = "./search"
  count  = local.on_search ? 1 : 0

  documents_url = var.documents_url
  ca_file       = var.search.ca_file
  prefix        = var.search.prefix
  user          = var.search.user
  password_file = var.search.password_file
  keys_folder   = var.search.keys_folder
  renewed       = var.search.renewed
  key_days      = var.search.key_days
  ilm_days      = var.search.ilm_days
  groups        = local.catalog.search_groups
  image         = var.image
  cli           = var.cli
}

module "secrets" {
  source = "./secrets"

  gateway_url   = var.gateway_url
  password_file = var.password_file
  ca_file       = var.gateway_ca_file
  files         = local.files
  cli           = var.cli
}

module "functions" {
  source = "./functions"

  gateway_url       = var.gateway_url
  password_file     = var.password_file
  ca_file           = var.gateway_ca_file
  image             = var.image
  secret_files      = local.files
  secrets           = setsubtract(module.secrets.names, flatten(values(local.function_secrets)))
  function_secrets  = local.function_secrets
  function_settings = { for name in local.configured : name => merge(lookup(local.search_keys, name, {}), lookup(var.function_settings, name, {})) }
  schedules         = var.schedules
  settings          = merge({ SKYTALLY_DOCUMENTS = var.documents_url, SKYTALLY_OBJECTS = var.objects_url }, local.search_settings, var.settings)
  cli               = var.cli
}
