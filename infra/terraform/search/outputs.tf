locals {
  secret_of = { for group in keys(var.groups) : group => "search-${group}-${var.renewed}" }
}

output "files" {
  description = "The API keys' files, by the names of the secrets that they are to be; a group without functions is a person's, whose key stays here."
  value       = { for group, name in local.secret_of : name => "${var.keys_folder}/${var.renewed}/${group}" if length(var.groups[group]) > 0 }
  depends_on  = [terraform_data.keys]
}

output "function_secrets" {
  description = "The secret that each function needs, by the function's name in paths."
  value       = merge([for group, functions in var.groups : { for function in functions : function => [local.secret_of[group]] }]...)
}
